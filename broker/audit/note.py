"""Signed notes, as in C2SP signed-note v1.0.0, with Ed25519 (signature type 0x01)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_KEY_ID_SIZE = 4
_KEY_SIZE = 32
_LARGEST = 1_000_000
_MOST_SIGNATURES = 64
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


class InvalidNote(ValueError):
    """The note is malformed, or not signed by the key."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a note's key; as text, a C2SP vkey: `name+hex(key id)+base64(type || public key)`."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> VerifierKey:
        """Parse a vkey.

        Raises:
            InvalidNote: it is malformed, or its key id is not that of the key.
        """
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        data = _unbase64(encoded)
        if not _NAME.fullmatch(name) or len(data) != 1 + _KEY_SIZE or data[:1] != _ED25519:
            raise InvalidNote("the verifier key is not `name+id+key` with an Ed25519 key")
        key = cls(name, data[1:])
        if key.key_id.hex() != key_id:
            raise InvalidNote("the verifier key's id is not that of its key")
        return key

    @property
    def key_id(self) -> bytes:
        """Return the four bytes by which signature lines name the key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_KEY_ID_SIZE]

    def __str__(self) -> str:
        """Return the vkey."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """Signs notes in a name. Nothing of the private key can be read from it."""

    name: str
    _key: Ed25519PrivateKey = field(repr=False)
    vkey: VerifierKey = field(init=False, repr=False)  # the public half
    _key_id: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the public half: once, and not for each note."""
        object.__setattr__(self, "vkey", VerifierKey(self.name, self._key.public_key().public_bytes_raw()))
        object.__setattr__(self, "_key_id", self.vkey.key_id)

    @classmethod
    def generate(cls, name: str) -> NoteSigner:
        """Make a signer with a new key."""
        return cls(name, Ed25519PrivateKey.generate())

    def sign(self, text: str) -> str:
        """Make a signed note of a text, which ends in a newline."""
        signature = base64.b64encode(self._key_id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n"


def verify_note(note: str, key: VerifierKey) -> str:
    """Return the text of a note that the key has signed. Other keys' signatures are passed over.

    Raises:
        InvalidNote: it is malformed, has no signature by the key, or a wrong one.
    """
    if len(note) > _LARGEST or _FORBIDDEN.search(note):
        raise InvalidNote("the note is too long or holds control characters")
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise InvalidNote("the note has no signatures")
    text = head + "\n"
    lines = tail[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise InvalidNote("the note has too many signatures")
    signed = [_check(line, text, key) for line in lines]
    if not any(signed):
        raise InvalidNote(f"the note is not signed by `{key.name}`")
    return text


def _check(line: str, text: str, key: VerifierKey) -> bool:
    """Report whether a signature line is the key's, and right; a wrong one is an error, another key's is not."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidNote("the note has a malformed signature line")
    data = _unbase64(match[2])
    if len(data) <= _KEY_ID_SIZE:
        raise InvalidNote("the note has a malformed signature line")
    if match[1] != key.name or data[:_KEY_ID_SIZE] != key.key_id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(data[_KEY_ID_SIZE:], text.encode())
    except InvalidSignature as error:
        raise InvalidNote(f"the signature of `{key.name}` is wrong") from error
    return True


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidNote("a key or signature is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise InvalidNote("a key or signature is not base64 in its one canonical form")
    return data
