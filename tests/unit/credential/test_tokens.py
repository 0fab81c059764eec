"""Tokens: what is written reads back, others' libraries read it too, and nothing else is one."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jwk import KeySet as OtherKeySet

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.keys import EcSigner, KeySet
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from tests.support.tokens import AT, CLAIMS, HEADER, KEYS, PAYLOAD, PRIVATE, SIGNER, refused, segment, to_json, token

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SCALARS = TEXTS | st.integers(-(2**53), 2**53) | st.booleans()
CONSTRAINTS = st.one_of(
    st.builds(lambda path, value: Constraint(path, Operator.EQ, (value,)), TEXTS, SCALARS),
    st.builds(lambda path, values: Constraint(path, Operator.IN, tuple(values)), TEXTS, st.lists(SCALARS, min_size=1)),
    st.builds(
        lambda path, low, high: Constraint(path, Operator.RANGE, (low, high)), TEXTS, st.integers(), st.integers()
    ),
    st.builds(lambda path, size: Constraint(path, Operator.MAX_LEN, (size,)), TEXTS, st.integers(0, 99)),
    st.builds(lambda path: Constraint(path, Operator.PRESENT), TEXTS),
    st.builds(lambda path, host: Constraint(path, Operator.HOST_IN, (host,)), TEXTS, TEXTS),
)
TOOLS = st.text("abcdefgh_", min_size=1, max_size=12)


@given(
    grants=st.lists(st.builds(Grant, TOOLS, st.lists(CONSTRAINTS, max_size=3).map(tuple)), min_size=1, max_size=3),
    index=st.integers(0, 2**31),
    seconds=st.integers(0, 10**9),
    binding=st.sampled_from(Binding),
    subject=TEXTS,
)
def test_claims_come_back_from_a_token(
    grants: list[Grant], index: int, seconds: int, binding: Binding, subject: str
) -> None:
    claims = Claims(
        issuer="https://broker.example",
        audience="https://repo.tools.example",
        subject=subject,
        lease_id="lease",
        task_id="task",
        tenant="acme",
        index=index,
        grants=tuple(grants),
        binding=binding,
        confirmation=SIGNER.kid if binding in (Binding.CERTIFICATE, Binding.DPOP) else "",
        issued_at=AT,
        expires_at=AT + timedelta(seconds=seconds),
    )
    back = jose.decode(jose.encode(claims, SIGNER), KEYS)
    assert repr(back) == repr(claims)  # True is not 1 here


def test_another_library_reads_our_token_with_our_key_set() -> None:
    keys = OtherKeySet.import_key_set(json.loads(KEYS.to_jwks()))
    read = jwt.decode(TOKEN, keys, algorithms=["ES256"])
    assert read.header == HEADER
    assert read.claims == json.loads(to_json(PAYLOAD))


def test_a_token_of_another_library_with_the_same_claims_is_read() -> None:
    key = ECKey.import_key(_pem(PRIVATE))
    made = jwt.encode(HEADER, dict(PAYLOAD), key, algorithms=["ES256"])
    assert jose.decode(made, KEYS) == CLAIMS


def test_a_key_set_is_read_back_and_finds_its_keys() -> None:
    other = EcSigner.generate()
    keys = KeySet.from_jwks(KeySet.of([SIGNER, other]).to_jwks())
    assert jose.decode(TOKEN, keys) == CLAIMS
    assert keys.find(other.kid) == other.public_key()
    assert KeySet.from_jwks('{"keys": []}').find(SIGNER.kid) is None


JWK = SIGNER.public_key().to_jwk()


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("keys", "Expecting value"),
        ("[]", "not a JSON Web Key Set"),
        ("{}", "not a JSON Web Key Set"),
        ('{"keys": {}}', "not a JSON Web Key Set"),
        (json.dumps({"keys": [JWK | {"kid": "another"}]}), "`kid` is not its thumbprint"),
        (json.dumps({"keys": [JWK | {"x": "AAAA"}]}), "coordinate is not 32 bytes"),
        (json.dumps({"keys": [JWK | {"d": JWK["x"]}]}), "holds a private key"),
    ],
)
def test_what_is_no_set_of_our_keys_is_refused(document: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        KeySet.from_jwks(document)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _der_signature(text: str) -> str:
    signed = text.rpartition(".")[0]
    return f"{signed}.{segment(PRIVATE.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


def _with_signature(raw: bytes) -> Callable[[str], str]:
    return lambda text: f"{text.rpartition('.')[0]}.{segment(raw)}"


def _last_letter(text: str) -> str:
    """Change bits of the last letter that stand for nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


TOKEN = jose.encode(CLAIMS, SIGNER)
FORMS: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "two parts": lambda text: text.rpartition(".")[0],
    "four parts": lambda text: f"{text}.e30",
    "five parts, encrypted": lambda text: f"{text}.e30.e30",
    "no header": lambda text: text[text.index(".") :],
    "no payload": lambda text: f"{text.split('.')[0]}..{text.split('.')[2]}",
    "no signature": lambda text: f"{text.rpartition('.')[0]}.",
    "padded": lambda text: f"{text}==",
    "a space before": lambda text: f" {text}",
    "a newline behind": lambda text: f"{text}\n",
    "a newline within": lambda text: text.replace(".", ".\n", 1),
    "a letter of another script": lambda text: text.replace("e", "\u0435", 1),
    "null within": lambda text: f"{text}\x00",
    "base64 of the other kind": lambda text: f"{text.rpartition('.')[0]}.{'+/' * 43}",
    "one letter too many": lambda text: f"{text}A",
    "other bits in the last letter": _last_letter,
    "too long": lambda text: text.replace(".", "." + "A" * 9_000, 1),
    "signature in DER": _der_signature,
    "signature of zeros": _with_signature(bytes(64)),
    "signature too short": _with_signature(bytes(63)),
    "signature too long": _with_signature(bytes(65)),
    "signature with r = n": _with_signature(
        bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") + b"\x01" * 32
    ),
    "signature of another": lambda text: (
        token(payload={**PAYLOAD, "sub": "another"}).rpartition(".")[0] + "." + text.rpartition(".")[2]
    ),
}


@pytest.mark.parametrize("change", FORMS.values(), ids=FORMS.keys())
def test_a_token_has_one_form(change: Callable[[str], str]) -> None:
    changed = change(TOKEN)
    assert changed != TOKEN
    refused(changed)


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    pem = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment(HEADER | {'alg': 'HS256'})}.{segment(PAYLOAD)}"
    refused(f"{signed}.{segment(hmac.digest(pem, signed.encode(), 'sha256'))}")


def test_a_key_of_another_kind_under_our_key_id_does_not_sign_for_us() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other = RSAKey.import_key(_pem(key))
    refused(jwt.encode(HEADER | {"alg": "RS256"}, dict(PAYLOAD), other, algorithms=["RS256"]))
    refused(jose.encode(CLAIMS, EcSigner.generate()))


@given(st.integers(0, len(TOKEN) - 1), st.integers(0, 6))
def test_no_bit_can_be_flipped(place: int, bit: int) -> None:
    changed = TOKEN[:place] + chr(ord(TOKEN[place]) ^ (1 << bit)) + TOKEN[place + 1 :]
    refused(changed)


@given(st.text(max_size=200) | st.from_regex(r"[\w-]{0,20}\.[\w-]{0,20}\.[\w-]{0,20}", fullmatch=True))
def test_no_text_makes_the_parser_stumble(text: str) -> None:
    refused(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*PAYLOAD, "value"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_no_signed_json_makes_the_parser_stumble(value: Any) -> None:
    refused(token(payload=value))


def test_claims_show_no_secret_and_a_token_shows_no_key() -> None:
    pem = _pem(PRIVATE).decode()
    assert not any(line in repr(SIGNER) + repr(KEYS) + KEYS.to_jwks() for line in pem.splitlines()[1:-1])
    assert '"d"' not in KEYS.to_jwks()
