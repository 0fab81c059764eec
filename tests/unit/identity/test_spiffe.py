"""SPIFFE IDs are parsed strictly, and each has one spelling."""

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.identity.spiffe import SpiffeId, parse_spiffe_id

SEGMENT_LETTERS = string.ascii_letters + string.digits + "._-"
TRUST_DOMAINS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=255)
SEGMENTS = st.text(SEGMENT_LETTERS, min_size=1, max_size=40).filter(lambda text: text not in (".", ".."))
GRAMMAR = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*", re.ASCII)


@given(TRUST_DOMAINS, st.lists(SEGMENTS, max_size=8))
def test_what_the_standard_allows_is_read_and_written_alike(trust_domain: str, segments: list[str]) -> None:
    path = "".join(f"/{segment}" for segment in segments)
    found = parse_spiffe_id(f"spiffe://{trust_domain}{path}")
    assert found == SpiffeId(trust_domain, path)
    assert str(found) == f"spiffe://{trust_domain}{path}"


@given(st.text(max_size=60).map("spiffe://".__add__) | st.text(max_size=60))
@example("spiffe://example.org/agent\n")
@example("spiffe://example.org\n")
@example("spiffe://a/b/..")
@example("spiffe://a/.../b")
def test_it_reads_exactly_the_grammar(text: str) -> None:
    if GRAMMAR.fullmatch(text):
        assert str(parse_spiffe_id(text)) == text
    else:
        with pytest.raises(ValueError):
            parse_spiffe_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe:///agent",
        "SPIFFE://example.org/agent",
        "Spiffe://example.org/agent",
        "https://example.org/agent",
        " spiffe://example.org/agent",
        "spiffe://example.org/agent ",
        "spiffe://example.org/agent\n",
        "spiffe://example.org/agent\x00",
        "spiffe://Example.org/agent",
        "spiffe://example.org:8443/agent",
        "spiffe://user@example.org/agent",
        "spiffe://user:word@example.org/agent",
        "spiffe://[::1]/agent",
        "spiffe://example.org?x=1",
        "spiffe://example.org/agent?x=1",
        "spiffe://example.org/agent#part",
        "spiffe://example.org/",
        "spiffe://example.org/agent/",
        "spiffe://example.org//agent",
        "spiffe://example.org/agent//researcher",
        "spiffe://example.org/.",
        "spiffe://example.org/..",
        "spiffe://example.org/agent/./researcher",
        "spiffe://example.org/agent/../operator",
        "spiffe://example.org/agent%2fresearcher",
        "spiffe://example.org/agent/%2e%2e/operator",
        "spiffe://ex%61mple.org/agent",
        "spiffe://example.org/agent\\researcher",
        "spiffe://example.org/agent/*",
        "spiffe://example.org/agent;x",
        "spiffe://exämple.org/agent",
        "spiffe://example.org/ägent",
        "spiffe://example.org/agent/\u0430",  # Cyrillic
        "spiffe://example.org/agent/\u0661",  # a digit to Python, and not to the standard
        "spiffe://example.org\u3002evil/agent",
        f"spiffe://{'a' * 256}/agent",
        f"spiffe://example.org/{'a' * 2_028}",
    ],
)
def test_hostile_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_spiffe_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://example.org",
        "spiffe://10.0.0.1/agent",
        "spiffe://a_b-c.d/Agent/...",
        f"spiffe://{'a' * 255}/agent",
        f"spiffe://example.org/{'a' * 2_027}",
    ],
)
def test_ids_at_the_edge_are_read(text: str) -> None:
    assert len(text) <= 2_048
    assert str(parse_spiffe_id(text)) == text


def test_a_trust_domains_own_id_has_no_path() -> None:
    assert parse_spiffe_id("spiffe://example.org").path == ""
