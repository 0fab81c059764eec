"""Keys in a folder: one file of mode 0600 per private key, and the lives of the token keys beside them.

`checkpoint.pem` signs the ledger's checkpoints and nothing else; `token-KID.pem` sign tokens and nothing else. The
folder is for one broker, or for several that share it read-only but for the one that rotates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from broker.credential.keys import EcSigner, KeySet
from broker.disk import files
from broker.disk.files import ExposedFile
from broker.keystore.keyring import KeyLife, Keyring
from broker.model.clock import from_micros, to_micros
from broker.model.errors import CannotStart

_CHECKPOINT = "checkpoint.pem"
_KEYRING = "keyring.json"
_FOLDER = 0o700


class KeyFileError(CannotStart):
    """A key cannot be used. The message names the file and the remedy, and never what is in it."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a folder, as last read."""

    checkpoint: Ed25519PrivateKey
    keyring: Keyring
    _signers: Mapping[str, EcSigner]

    def signer(self, at: datetime) -> EcSigner:
        """Return the key that signs tokens at an instant."""
        return self._signers[self.keyring.signing(at)]

    def published(self) -> KeySet:
        """Return the public keys of all tokens that may be alive, or may be signed next."""
        return KeySet.of(self._signers.values())

    def __repr__(self) -> str:
        """Show key ids alone."""
        return f"Keys({', '.join(self._signers)})"


def create_keys(directory: Path, at: datetime) -> Keys:
    """Make a folder with a checkpoint key and a first token key.

    Raises:
        KeyFileError: there are keys already.
    """
    directory.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    if (directory / _KEYRING).exists() or (directory / _CHECKPOINT).exists():
        raise KeyFileError(f"{directory}: holds keys already; to make the next token key, use `credbroker keys rotate`")
    _write_key(directory / _CHECKPOINT, Ed25519PrivateKey.generate())
    kid = _new_token_key(directory)
    _write_keyring(directory, Keyring((KeyLife(kid, at),)))
    return open_keys(directory)


def open_keys(directory: Path) -> Keys:
    """Read the keys of a folder.

    Raises:
        KeyFileError: a file is missing, broken, of another kind, or may be read by others.
    """
    checkpoint = _read_key(directory / _CHECKPOINT)
    if not isinstance(checkpoint, Ed25519PrivateKey):
        raise KeyFileError(f"{directory / _CHECKPOINT}: is not an Ed25519 key")
    keyring = _read_keyring(directory)
    return Keys(checkpoint, keyring, {life.kid: _read_token_key(directory, life.kid) for life in keyring.lives})


def publish_next(directory: Path, keys: Keys, signs_from: datetime) -> Keys:
    """Make the next token key, published from now on and signing from an instant on."""
    kid = _new_token_key(directory)
    _write_keyring(directory, keys.keyring.with_next(kid, signs_from))
    return open_keys(directory)


def replace_token_keys(directory: Path, at: datetime) -> Keys:
    """Withdraw all token keys, and make another that signs from now on: what they have signed verifies no more."""
    withdrawn = [life.kid for life in open_keys(directory).keyring.lives]
    kid = _new_token_key(directory)
    _write_keyring(directory, Keyring((KeyLife(kid, at),)))
    for old in withdrawn:
        _token_file(directory, old).unlink(missing_ok=True)
    return open_keys(directory)


def drop_gone(directory: Path, keys: Keys, at: datetime, longest_token: timedelta) -> Keys:
    """Delete the token keys whose last token is dead."""
    gone = keys.keyring.gone(at, longest_token)
    if not gone:
        return keys
    _write_keyring(directory, keys.keyring.without(gone))
    for kid in gone:
        _token_file(directory, kid).unlink(missing_ok=True)
    return open_keys(directory)


def _new_token_key(directory: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    kid = EcSigner.of(key).kid
    _write_key(_token_file(directory, kid), key)
    return kid


def _read_token_key(directory: Path, kid: str) -> EcSigner:
    path = _token_file(directory, kid)
    key = _read_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: is not a P-256 key")
    signer = EcSigner.of(key)
    if signer.kid != kid:
        raise KeyFileError(f"{path}: holds another key than its name says")
    return signer


def _read_key(path: Path) -> object:
    try:
        data = files.read_private(path)
    except ExposedFile as error:
        raise KeyFileError(str(error)) from error
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; make keys with `credbroker keys create`") from error
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # From None: what the parser says may quote the file.
        raise KeyFileError(f"{path}: is not a private key in PEM; restore it, or rotate") from None


def _write_key(path: Path, key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    files.create(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _read_keyring(directory: Path) -> Keyring:
    path = directory / _KEYRING
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        lives = [KeyLife(_kid(item["kid"]), from_micros(int(item["signs_from"]))) for item in document["keys"]]
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; make keys with `credbroker keys create`") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise KeyFileError(f"{path}: is malformed; restore it") from error
    if not lives:
        raise KeyFileError(f"{path}: names no key; restore it")
    return Keyring(tuple(sorted(lives, key=lambda life: life.signs_from)))


def _kid(value: object) -> str:
    """Take a key's id, which its file is named by."""
    kid = str(value)
    if not (kid.isascii() and kid.isprintable()):
        raise ValueError("it cannot be in the name of a file")
    return kid


def _write_keyring(directory: Path, keyring: Keyring) -> None:
    document = {"keys": [{"kid": life.kid, "signs_from": to_micros(life.signs_from)} for life in keyring.lives]}
    files.replace(directory / _KEYRING, json.dumps(document, indent=2).encode())


def _token_file(directory: Path, kid: str) -> Path:
    return directory / f"token-{kid}.pem"
