"""The ids of principals, and the patterns of rules."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.directory import IdentityRule
from broker.identity.ids import check_id, check_pattern, oidc_id, subject_of
from broker.model.principal import Role


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org/a",
        "oidc:ci:x",
        "oidc:c-1:repo:o/r:ref:refs/heads/main",
        f"oidc:{'a' * 32}:{'b' * 512}",
        "oidc:github:74:Production%20EU",
        "oidc:github:74:prod%2A",
        "oidc:github:74:Produ%C3%A7%C3%A3o",
        "oidc:ci:100%25",
    ],
)
def test_an_id_is_itself(text: str) -> None:
    assert check_id(text) == check_pattern(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "oidc:",
        "oidc:ci",
        "oidc:ci:",
        "oidc::x",
        "oidc:CI:x",
        "oidc:-ci:x",
        f"oidc:{'a' * 33}:x",
        f"oidc:ci:{'b' * 513}",
        "oidc:ci:a b",
        "oidc:ci:a\n",
        "oidc:ci:a*",
        "oidc:ci:ä",
        "OIDC:ci:x",
        "oidc:ci:100%",
        "oidc:ci:a%2fb",
        "oidc:ci:a%2Fb",
        "oidc:ci:a%3ab",
        "oidc:ci:prod%2a",
        "oidc:ci:%61",
        "oidc:ci:%00",
        "oidc:ci:%0A",
        "oidc:ci:%7F",
        "oidc:ci:%C2%85",
        "oidc:ci:%FF",
        "oidc:ci:%C0%AF",
        "oidc:ci:%ED%A0%80",
        "oidc:ci:%",
        "oidc:ci:" + "%20" * 513,
        "oidc:ci:" + "%F0%9F%98%80" * 200,
        "spiffe:example.org",
        "https://example.org",
        "",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        check_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "oidc:*",
        "oidc:ci*",
        "oidc:ci:a*",
        "oidc:*:x",
        "oidc:ci:*x",
        "oidc:ci:a:**",
        "*",
        "oidc:ci:a b:*",
        "oidc:ci:a%:*",
        "oidc:ci:%2F:*",
    ],
)
def test_a_pattern_with_a_star_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        check_pattern(text)


@pytest.mark.parametrize(
    ("pattern", "principal", "matches"),
    [
        ("oidc:ci:*", "oidc:ci:x", True),
        ("oidc:ci:*", "oidc:ci2:x", False),
        ("oidc:ci:agents:*", "oidc:ci:agents:x", True),
        ("oidc:ci:agents:*", "oidc:ci:agentsx", False),
        ("oidc:ci:o/*", "oidc:ci:o/r", True),
        ("oidc:ci:a%20b:*", "oidc:ci:a%20b:x", True),
        ("oidc:ci:x", "oidc:ci:x", True),
        ("oidc:ci:x", "oidc:ci:x:y", False),
        ("spiffe://example.org/*", "oidc:ci:spiffe://example.org/a", False),
    ],
)
def test_a_pattern_matches_what_goes_on_behind_it(pattern: str, principal: str, matches: bool) -> None:
    assert IdentityRule(pattern, "acme", frozenset({Role.AGENTS})).matches(principal) is matches


@given(st.text(max_size=20))
def test_an_id_of_a_subject_belongs_to_its_issuer_alone(subject: str) -> None:
    with suppress(ValueError):
        made = oidc_id("ci", subject)
        assert check_id(made) == made
        assert made.split(":", 2)[:2] == ["oidc", "ci"]
        assert made.isascii()
        assert not set(made) & set(" *")
        assert subject_of(made) == subject


@given(st.text(max_size=20))
def test_a_text_that_is_an_id_is_that_of_its_subject(text: str) -> None:
    with suppress(ValueError):
        written = check_id(f"oidc:ci:{text}")
        assert oidc_id("ci", subject_of(written)) == written


def test_a_text_that_is_written_otherwise_is_told_how() -> None:
    with pytest.raises(ValueError, match="it is written `oidc:github:74:Production%20EU`"):
        check_id("oidc:github:74:Production EU")


@pytest.mark.parametrize("subject", ["", "a\n", "\x7f", "\ud800", "x" * 513, "\U0001f600" * 200])
def test_a_subject_that_is_none_makes_no_id(subject: str) -> None:
    with pytest.raises(ValueError, match="a subject is"):
        oidc_id("ci", subject)
