"""The ids of principals, and the patterns of rules."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.identity.directory import Rule
from broker.identity.ids import check_id, check_pattern, oidc_id
from broker.model.principal import Group


@pytest.mark.parametrize(
    "text",
    ["spiffe://example.org/a", "oidc:ci:x", "oidc:c-1:repo:o/r:ref:refs/heads/main", f"oidc:{'a' * 32}:{'b' * 512}"],
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
        "spiffe:example.org",
        "https://example.org",
        "",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        check_id(text)


@pytest.mark.parametrize("text", ["oidc:*", "oidc:ci*", "oidc:ci:a*", "oidc:*:x", "oidc:ci:*x", "oidc:ci:a:**", "*"])
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
        ("oidc:ci:x", "oidc:ci:x", True),
        ("oidc:ci:x", "oidc:ci:x:y", False),
        ("spiffe://example.org/*", "oidc:ci:spiffe://example.org/a", False),
    ],
)
def test_a_pattern_matches_what_goes_on_behind_it(pattern: str, principal: str, matches: bool) -> None:
    assert Rule(pattern, "acme", frozenset({Group.AGENTS})).matches(principal) is matches


@given(st.text(max_size=20))
def test_an_id_of_a_subject_belongs_to_its_issuer_alone(subject: str) -> None:
    with suppress(ValueError):
        assert oidc_id("ci", subject).split(":", 2) == ["oidc", "ci", subject]
