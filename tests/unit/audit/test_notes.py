"""Signed notes and checkpoints: the published vector, and what is no note."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.note import InvalidNote, NoteSigner, VerifierKey, verify_note

# From the documentation of golang.org/x/mod/sumdb/note.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
NOTE = f"{TEXT}\n{LINE}"


def test_the_published_note_verifies() -> None:
    key = VerifierKey.parse(VKEY)
    assert verify_note(NOTE, key) == TEXT
    assert str(key) == VKEY


def test_what_is_signed_here_verifies_with_its_own_key_alone() -> None:
    signer, other = NoteSigner.generate("broker.example/ledger"), NoteSigner.generate("broker.example/ledger")
    note = signer.sign(TEXT)
    assert verify_note(note, VerifierKey.parse(str(signer.vkey))) == TEXT
    with pytest.raises(InvalidNote, match="not signed by"):
        verify_note(note, other.vkey)
    assert verify_note(note + other.sign(TEXT).rpartition("\n\n")[2], signer.vkey) == TEXT  # cosigned
    assert "object at" not in repr(signer)
    assert repr(signer) == "NoteSigner(name='broker.example/ledger')"


@pytest.mark.parametrize(
    "note",
    [
        "",
        TEXT,
        TEXT + LINE,  # no empty line between
        NOTE[:-1],  # no newline at the end
        NOTE + "\n",
        NOTE.replace("answer", "Answer"),
        NOTE.replace("— PeterNeumann", "- PeterNeumann"),
        NOTE.replace("— PeterNeumann", "—  PeterNeumann"),
        NOTE.replace(" x08go", " X08go"),
        NOTE.replace("JnAM=", "JnAN="),
        NOTE.replace("JnAM=", "JnA!="),
        NOTE.replace("If you", "If\tyou"),
        NOTE.replace("If you", "If\x00you"),
        NOTE.replace("\n", "\r\n"),
        f"{TEXT}\n— PeterNeumann x08go/\n",
        f"{TEXT}\n— PeterNeumann x08gow==\n",  # no signature behind the key's id
        f"{TEXT}\n— PeterNeumann\n",
        f"{TEXT}\n{LINE * 65}",
        f"{TEXT * 20_000}\n{LINE}",
    ],
)
def test_a_note_that_is_not_exactly_what_was_signed_is_refused(note: str) -> None:
    with pytest.raises(InvalidNote):
        verify_note(note, VerifierKey.parse(VKEY))


@given(st.text(max_size=300))
def test_no_text_makes_the_verifier_stumble(note: str) -> None:
    with pytest.raises(InvalidNote):
        verify_note(note, VerifierKey.parse(VKEY))


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "PeterNeumann",
        VKEY.replace("c74f20a3", "c74f20a4"),
        VKEY.replace("c74f20a3", "C74F20A3"),
        VKEY.replace("Peter", "Peter "),
        VKEY.replace("+AR", "+BR"),  # another type of signature
        VKEY[:-4],
        VKEY + "AA",
        VKEY.replace("PeterNeumann", ""),
    ],
)
def test_a_verifier_key_is_taken_only_whole(vkey: str) -> None:
    with pytest.raises(InvalidNote):
        VerifierKey.parse(vkey)


@given(
    origin=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
    size=st.integers(0, 2**63),
    root=st.binary(min_size=32, max_size=32),
)
def test_a_checkpoint_comes_back_from_its_text(origin: str, size: int, root: bytes) -> None:
    written = Checkpoint(origin, size, root)
    assert checkpoint.parse(checkpoint.format(written)) == written


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n5\n",
        f"origin\n5\n{ROOT}",
        f"\n5\n{ROOT}\n",
        f"origin\n05\n{ROOT}\n",
        f"origin\n+5\n{ROOT}\n",
        f"origin\n-5\n{ROOT}\n",
        f"origin\n 5\n{ROOT}\n",
        f"origin\n1_0\n{ROOT}\n",
        f"origin\n\u0665\n{ROOT}\n",
        f"origin\n5.0\n{ROOT}\n",
        f"origin\n5\n{ROOT}\n\n",
        f"origin\n5\n{ROOT}\nextension\n",
        f"origin\n5\n{ROOT[:-2]}B=\n",  # bits that stand for nothing
        f"origin\n5\n{base64.b64encode(bytes(31)).decode()}\n",
        f"origin\n5\n{base64.b64encode(bytes(33)).decode()}\n",
        f"origin\n5\n{ROOT[:-1]}\n",
        f"origin\r\n5\r\n{ROOT}\r\n",
    ],
)
def test_a_checkpoint_has_one_form(text: str) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        checkpoint.parse(text)
