"""Keys in a folder: one file of mode 0600 per private key, and the lives of the token keys beside them.

`checkpoint.pem` signs the ledger's checkpoints and nothing else, and each broker of a ledger has a copy of it.
`token-KID.pem` sign tokens and nothing else, and are one broker's own. Brokers of one machine may share a folder.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
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

from broker.credential.keys import EcSigner
from broker.disk import files
from broker.disk.files import ExposedFile
from broker.keystore.announcing import Own
from broker.keystore.keyring import KeyLife, Keyring
from broker.model.clock import from_micros, to_micros
from broker.model.errors import CannotStart

_CHECKPOINT = "checkpoint.pem"
_KEYRING = "keyring.json"
_FOLDER = 0o700
# Of file systems where a folder cannot be locked: there, brokers cannot share one.
_FOLDERS_NOT_LOCKED = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP)


class KeyFileError(CannotStart):
    """A key cannot be used. The message names the file and the remedy, and never what is in it."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a folder, as last read."""

    checkpoint: Ed25519PrivateKey
    keyring: Keyring
    signers: Mapping[str, EcSigner]

    def own(self) -> Own:
        """Return what there is to announce of the token keys."""
        return Own(self.keyring, [signer.public_key() for signer in self.signers.values()])

    def __repr__(self) -> str:
        """Show key ids alone."""
        return f"Keys({', '.join(self.signers)})"


def create_keys(directory: Path, at: datetime, checkpoint: Ed25519PrivateKey | None = None) -> Keys:
    """Make a folder with a first token key, and with a checkpoint key: a new one, or that of a ledger that there is.

    Raises:
        KeyFileError: there are keys already.
    """
    directory.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    if (directory / _KEYRING).exists() or (directory / _CHECKPOINT).exists():
        raise KeyFileError(f"{directory}: holds keys already; to make the next token key, use `credbroker keys rotate`")
    _write_key(directory / _CHECKPOINT, checkpoint or Ed25519PrivateKey.generate())
    kid = _new_token_key(directory)
    _write_keyring(directory, Keyring((KeyLife(kid, at),)))
    return open_keys(directory)


def open_keys(directory: Path) -> Keys:
    """Read the keys of a folder.

    Raises:
        KeyFileError: a file is missing, broken, of another kind, or may be read by others.
    """
    checkpoint = read_checkpoint_key(directory / _CHECKPOINT)
    keyring = _read_keyring(directory)
    return Keys(checkpoint, keyring, {life.kid: _read_token_key(directory, life.kid) for life in keyring.lives})


def read_checkpoint_key(path: Path) -> Ed25519PrivateKey:
    """Read the key of a ledger.

    Raises:
        KeyFileError: it is missing, broken, of another kind, or may be read by others.
    """
    key = _read_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: is not an Ed25519 key")
    return key


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep others from changing a folder for the time of a block: what is read in it is still so when it is changed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise KeyFileError(f"{directory}: {error.strerror}; make keys with `credbroker keys create`") from error
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def publish_next(directory: Path, keys: Keys, signs_from: datetime) -> Keys:
    """Make the next token key, published from now on and signing from an instant on."""
    kid = _new_token_key(directory)
    _write_keyring(directory, keys.keyring.with_next(kid, signs_from))
    return open_keys(directory)


def replace_token_keys(directory: Path, at: datetime) -> Keys:
    """Withdraw all token keys, and make another in their place: what they have signed verifies no more."""
    keys = open_keys(directory)
    return withdraw(directory, keys, [life.kid for life in keys.keyring.lives], at)


def withdraw(directory: Path, keys: Keys, kids: Collection[str], at: datetime) -> Keys:
    """Withdraw token keys, ours or another broker's; where none of ours is left, make another."""
    keyring = keys.keyring.withdrawing(kids)
    if not keyring.lives:
        keyring = replace(keyring, lives=(KeyLife(_new_token_key(directory), at),))
    return _without(directory, keyring, kids)


def drop(directory: Path, keys: Keys, kids: Collection[str], withdrawn: Collection[str]) -> Keys:
    """Delete token keys whose last token is dead, and forget to withdraw what the ledger says is withdrawn."""
    left = tuple(kid for kid in keys.keyring.withdrawn if kid not in withdrawn)
    keyring = replace(keys.keyring.without(kids), withdrawn=left)
    return keys if keyring == keys.keyring else _without(directory, keyring, kids)


def _without(directory: Path, keyring: Keyring, kids: Collection[str]) -> Keys:
    _write_keyring(directory, keyring)
    for kid in kids:
        _token_file(directory, kid).unlink(missing_ok=True)
    return open_keys(directory)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _FOLDERS_NOT_LOCKED:
            raise


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
        withdrawn = tuple(_kid(kid) for kid in document.get("withdrawn", ()))
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; make keys with `credbroker keys create`") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise KeyFileError(f"{path}: is malformed; restore it") from error
    if not lives:
        raise KeyFileError(f"{path}: names no key; restore it")
    return Keyring(tuple(sorted(lives, key=lambda life: life.signs_from)), withdrawn)


def _kid(value: object) -> str:
    """Take a key's id, which its file is named by."""
    kid = str(value)
    if not (kid.isascii() and kid.isprintable()):
        raise ValueError("it cannot be in the name of a file")
    return kid


def _write_keyring(directory: Path, keyring: Keyring) -> None:
    document: dict[str, object] = {
        "keys": [{"kid": life.kid, "signs_from": to_micros(life.signs_from)} for life in keyring.lives]
    }
    if keyring.withdrawn:
        document["withdrawn"] = [*keyring.withdrawn]
    files.replace(directory / _KEYRING, json.dumps(document, indent=2).encode())


def _token_file(directory: Path, kid: str) -> Path:
    return directory / f"token-{kid}.pem"
