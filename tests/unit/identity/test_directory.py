"""The first rule that matches says what a workload is."""

import pytest

from broker.identity.directory import Directory, IdentityRule, parse_denied
from broker.model.principal import Role

AGENTS, OPERATORS = frozenset({Role.AGENTS}), frozenset({Role.OPERATORS})


def rule(match: str, tenant: str = "acme", roles: frozenset[Role] = AGENTS) -> IdentityRule:
    return IdentityRule(match, tenant, roles)


@pytest.mark.parametrize(
    ("match", "spiffe_id", "matches"),
    [
        ("spiffe://example.org/agent", "spiffe://example.org/agent", True),
        ("spiffe://example.org/agent", "spiffe://example.org/agent/researcher", False),
        ("spiffe://example.org/agent", "spiffe://example.org/agents", False),
        ("spiffe://example.org/agent", "spiffe://example.org/Agent", False),
        ("spiffe://example.org/agent/*", "spiffe://example.org/agent/researcher", True),
        ("spiffe://example.org/agent/*", "spiffe://example.org/agent/team/researcher", True),
        ("spiffe://example.org/agent/*", "spiffe://example.org/agent", False),
        ("spiffe://example.org/agent/*", "spiffe://example.org/agents/researcher", False),
        ("spiffe://example.org/agent/*", "spiffe://other.example/agent/researcher", False),
        ("spiffe://example.org/*", "spiffe://example.org/agent", True),
        ("spiffe://example.org/*", "spiffe://example.org.evil.example/agent", False),
    ],
)
def test_a_pattern_is_an_id_or_all_below_one(match: str, spiffe_id: str, matches: bool) -> None:
    assert rule(match).matches(spiffe_id) is matches


@pytest.mark.parametrize(
    "match",
    [
        "",
        "*",
        "/*",
        "spiffe://*",
        "spiffe://*/agent",
        "spiffe://example.org*",
        "spiffe://example.org/age*",
        "spiffe://example.org/agent/**",
        "spiffe://example.org/*/researcher",
        "spiffe://example.org/agent/*/*",
        "spiffe://Example.org/agent",
        "example.org/agent",
    ],
)
def test_a_pattern_with_any_other_star_is_refused(match: str) -> None:
    with pytest.raises(ValueError):
        rule(match)


def test_the_first_rule_that_matches_holds() -> None:
    root, below = rule("spiffe://example.org/operator/root", "*", OPERATORS), rule("spiffe://example.org/operator/*")
    assert Directory((root, below)).assign("spiffe://example.org/operator/root") is root
    assert Directory((below, root)).assign("spiffe://example.org/operator/root") is below


def test_a_workload_that_no_rule_knows_is_nothing() -> None:
    assert Directory((rule("spiffe://example.org/agent/*"),)).assign("spiffe://example.org/stranger") is None
    assert Directory(()).assign("spiffe://example.org/agent/researcher") is None


@pytest.mark.parametrize("text", ["0a1b2c", "A1B2C", "a1b2c", "0A:1B:2C", "0xa1b2c", "000a1b2c"])
def test_a_serial_may_be_denied_as_any_tool_writes_it(text: str) -> None:
    assert parse_denied(text) == f"{0xA1B2C:x}"


def test_a_workload_may_be_denied_by_its_id() -> None:
    assert parse_denied("spiffe://example.org/agent/thief") == "spiffe://example.org/agent/thief"


@pytest.mark.parametrize(
    "text",
    ["", ":", "thief", "12 34", "-1", "spiffe://example.org/agent/*", "spiffe://Example.org/agent", "f" * 41],
)
def test_what_would_deny_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_denied(text)
