"""Where a server on a pipe finds its credential."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.model.errors import Reason, Refusal
from broker.sdk.guard.mcp.stdio import TOKEN_FD_VARIABLE, TOKEN_FILE_VARIABLE, token_from_environment


def refused(source: object) -> tuple[Reason, str]:
    with pytest.raises(Refusal) as refusal:
        source() if callable(source) else token_from_environment(source)  # type: ignore[arg-type]
    return refusal.value.reason, str(refusal.value)


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    source = token_from_environment({TOKEN_FILE_VARIABLE: str(path)})
    assert source() == "one"
    path.write_text("two")
    assert source() == "two"
    for content in (b"", b" \n", b"\xff"):
        path.write_bytes(content)
        assert refused(source)[0] is Reason.TOKEN_INVALID
    path.unlink()
    reason, told = refused(source)
    assert (reason, TOKEN_FILE_VARIABLE in told) == (Reason.TOKEN_INVALID, True)


def test_a_descriptor_is_read_from_its_start_each_time(tmp_path: Path) -> None:
    with (tmp_path / "token").open("w+b", buffering=0) as file:
        source = token_from_environment({TOKEN_FD_VARIABLE: str(file.fileno())})
        assert refused(source)[0] is Reason.TOKEN_INVALID
        file.write(b"one")
        assert (source(), source()) == ("one", "one")
        os.pwrite(file.fileno(), b"two", 0)
        assert source() == "two"
    assert refused(source)[0] is Reason.TOKEN_INVALID


@pytest.mark.parametrize(
    "environment",
    [{}, {TOKEN_FILE_VARIABLE: "a", TOKEN_FD_VARIABLE: "3"}, {TOKEN_FD_VARIABLE: "x"}, {TOKEN_FD_VARIABLE: "-1"}],
)
def test_exactly_one_place_must_be_named(environment: dict[str, str]) -> None:
    assert refused(environment)[0] is Reason.INVALID_ARGUMENT
