"""Keys on disk: for their owner alone, whole or refused, and rotated without a gap."""

from __future__ import annotations

import base64
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from broker.keystore.folder import (
    KeyFileError,
    create_keys,
    drop,
    held,
    open_keys,
    publish_next,
    read_checkpoint_key,
    replace_token_keys,
    withdraw,
)
from broker.keystore.keyring import KeyLife, Keyring

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def of_unknown_kind() -> bytes:
    """Return a key whose kind (RFC 8410 section 3) is a number that nobody has given."""
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    text = base64.b64encode(key.replace(bytes.fromhex("06032b6570"), bytes.fromhex("06032b657f")))
    return b"-----BEGIN PRIVATE KEY-----\n" + text + b"\n-----END PRIVATE KEY-----\n"


UNKNOWN_KIND = of_unknown_kind()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", AT)
    return tmp_path / "keys"


def token_file(folder: Path) -> Path:
    return next(folder.glob("token-*.pem"))


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_private_keys_are_for_their_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_keys_are_never_made_over_keys(folder: Path) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(KeyFileError, match="holds keys already"):
        create_keys(folder, AT)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_use_is_refused_with_the_remedy(folder: Path, mode: int) -> None:
    for file in (token_file(folder), folder / "checkpoint.pem"):
        file.chmod(mode)
        with pytest.raises(KeyFileError, match="chmod 600"):
            open_keys(folder)
        file.chmod(0o600)
    open_keys(folder)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("checkpoint.pem", None, "No such file"),
        ("checkpoint.pem", b"", "is not a private key in PEM"),
        (
            "checkpoint.pem",
            b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
            "is not a private key",
        ),
        ("checkpoint.pem", UNKNOWN_KIND, "is not a private key"),
        ("checkpoint.pem", pem(ec.generate_private_key(ec.SECP256R1())), "is not an Ed25519 key"),
        ("token", None, "No such file"),
        ("token", b"\x00" * 100, "is not a private key in PEM"),
        ("token", pem(ed25519.Ed25519PrivateKey.generate()), "is not a P-256 key"),
        ("token", pem(ec.generate_private_key(ec.SECP384R1())), "is not a P-256 key"),
        ("token", pem(ec.generate_private_key(ec.SECP256R1())), "another key than its name says"),
        ("keyring.json", None, "No such file"),
        ("keyring.json", b"", "is malformed"),
        ("keyring.json", b"{}", "is malformed"),
        ("keyring.json", b'{"keys": []}', "names no key"),
        ("keyring.json", b'{"keys": [{"kid": "x"}]}', "is malformed"),
        ("keyring.json", b'{"keys": [{"kid": "x", "signs_from": 1e300}]}', "is malformed"),
        ("keyring.json", b'{"keys": [{"kid": "../x", "signs_from": 0}]}', "No such file"),
        ("keyring.json", b'{"keys": [{"kid": "\\u0000", "signs_from": 0}]}', "is malformed"),
        ("keyring.json", b'{"keys": [{"kid": "\\ud800", "signs_from": 0}]}', "is malformed"),
        ("keyring.json", b'{"keys": [{"kid": "x", "signs_from": 0}], "withdrawn": 3}', "is malformed"),
        ("keyring.json", b"[" * 100_000, "is malformed"),
    ],
)
def test_what_is_missing_or_broken_is_named_and_not_quoted(
    folder: Path, name: str, content: bytes | None, complaint: str
) -> None:
    path = token_file(folder) if name == "token" else folder / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(KeyFileError, match=complaint) as error:
        open_keys(folder)
    assert str(folder) in str(error.value)
    assert "c2VjcmV0" not in str(error.value)


def test_nothing_of_a_key_is_in_its_representation(folder: Path) -> None:
    keys = open_keys(folder)
    lines = [line for file in folder.glob("*.pem") for line in file.read_text().splitlines()[1:-1]]
    shown = repr(keys) + str(keys) + repr(keys.signers) + repr(keys.own())
    assert not any(line in shown for line in lines)


def test_the_next_key_is_beside_the_others_and_signs_from_its_instant_on(folder: Path) -> None:
    keys = open_keys(folder)
    (old,) = keys.signers
    keys = publish_next(folder, keys, AT + HOUR)
    (new,) = keys.signers.keys() - {old}
    assert {key.kid for key in keys.own().public} == {old, new}
    assert keys.keyring.signing(AT + HOUR - timedelta(microseconds=1)) == old
    assert keys.keyring.signing(AT + HOUR) == new
    assert keys.keyring.gone(AT + 2 * HOUR, HOUR) == [], "its last token may live until this instant"
    assert keys.keyring.gone(AT + 2 * HOUR + timedelta(microseconds=1), HOUR) == [old]
    left = drop(folder, keys, [old], ())
    assert [*left.signers] == [new]
    assert [file.name for file in folder.glob("token-*.pem")] == [f"token-{new}.pem"]
    assert open_keys(folder).keyring == left.keyring


def test_replaced_keys_are_gone_and_named_until_the_ledger_says_so(folder: Path) -> None:
    keys = publish_next(folder, open_keys(folder), AT + HOUR)
    replaced = replace_token_keys(folder, AT)
    assert replaced.keyring.withdrawn == (*keys.signers,)
    assert not replaced.signers.keys() & keys.signers.keys()
    assert [file.name for file in folder.glob("token-*.pem")] == [f"token-{kid}.pem" for kid in replaced.signers]
    again = replace_token_keys(folder, AT)
    assert again.keyring.withdrawn == (*keys.signers, *replaced.signers)
    told = drop(folder, again, [], keys.signers.keys())
    assert told.keyring.withdrawn == (*replaced.signers,)
    assert told.signers.keys() == again.signers.keys()


def test_another_brokers_key_is_withdrawn_and_ours_stay(folder: Path) -> None:
    keys = open_keys(folder)
    after = withdraw(folder, keys, ["another"], AT)
    assert after.keyring.lives == keys.keyring.lives
    assert after.keyring.withdrawn == ("another",)
    assert open_keys(folder).keyring == after.keyring


def test_a_broker_that_joins_has_a_copy_of_the_ledgers_key_and_keys_of_its_own(folder: Path, tmp_path: Path) -> None:
    joined = create_keys(tmp_path / "joined", AT, read_checkpoint_key(folder / "checkpoint.pem"))
    ours = open_keys(folder)
    public = [keys.checkpoint.public_key().public_bytes_raw() for keys in (ours, joined)]
    assert public[0] == public[1]
    assert not ours.signers.keys() & joined.signers.keys()


def test_who_changes_a_folder_keeps_others_from_it_meanwhile(folder: Path) -> None:
    begun = threading.Event()

    def rotate() -> None:
        begun.set()
        with held(folder):
            publish_next(folder, open_keys(folder), AT + 2 * HOUR)

    other = threading.Thread(target=rotate)
    with held(folder):
        other.start()
        begun.wait()
        publish_next(folder, open_keys(folder), AT + HOUR)
    other.join()
    assert len(open_keys(folder).keyring.lives) == 3


def test_a_folder_that_is_not_there_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="keys create"), held(tmp_path / "none"):
        pass


def test_a_rotation_that_was_cut_short_leaves_the_keys_as_they_were(folder: Path) -> None:
    before = open_keys(folder)
    (folder / "token-half.pem").write_bytes(b"-----BEGIN PRIV")
    (folder / "keyring.json.new").write_bytes(b'{"keys": [')
    assert open_keys(folder).keyring == before.keyring
    after = publish_next(folder, before, AT + HOUR)
    assert len(after.keyring.lives) == 2


def test_the_folder_of_keys_is_made_with_its_parents(tmp_path: Path) -> None:
    create_keys(tmp_path / "a" / "b" / "keys", AT)
    assert open_keys(tmp_path / "a" / "b" / "keys").keyring.signing(AT)


STEPS = st.lists(st.integers(1, 500), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 5_000))
def test_some_key_always_signs_and_what_signed_is_published_for_as_long_as_a_token_lives(
    steps: list[int], seconds: int
) -> None:
    """However often keys were rotated, and whenever the clock says it is, even before the first key."""
    longest = timedelta(seconds=100)
    ring, at = Keyring((KeyLife("0", AT),)), AT
    for number, step in enumerate(steps, 1):
        at += timedelta(seconds=step)
        ring = ring.with_next(str(number), at + timedelta(seconds=50))
        ring = ring.without(ring.gone(at, longest))
    now = AT - timedelta(seconds=100) + timedelta(seconds=seconds)
    assert ring.signing(now) in {life.kid for life in ring.lives}
    # Whatever signed within the life of a token before the last step is still there.
    for ago in range(0, 101, 10):
        signed_at = at - timedelta(seconds=ago)
        assert ring.signing(signed_at) not in ring.gone(at, longest)
