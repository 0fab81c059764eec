"""When a lease ends is read from its entry without parsing it, and never otherwise than parsing it would tell."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import canonical
from broker.audit.effects import LeaseIssued, LeaseRenewed
from broker.audit.facts import lease_facts
from broker.audit.lease_ends import end_of
from broker.audit.readings import effects
from broker.model.clock import to_micros
from broker.model.entry import Entry, Json, Kind
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding, Lease

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
PLAIN = st.text(st.characters(codec="ascii", exclude_characters='"\\', exclude_categories=["Cc"]), max_size=8)
TEXTS = PLAIN | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
INSTANTS = st.integers(0, 10**10).map(lambda micros: AT + timedelta(microseconds=micros))


def leases(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Lease]:
    operands = st.lists(texts | st.integers(0, 2**53 - 1) | st.booleans(), max_size=2).map(tuple)
    constraints = st.lists(st.builds(Constraint, texts, st.sampled_from(Operator), operands), max_size=2).map(tuple)
    return st.builds(
        Lease,
        id=texts,
        tenant=texts,
        task_id=texts,
        holder=texts,
        resource=texts,
        grants=st.lists(st.builds(Grant, texts, constraints), max_size=2).map(tuple),
        binding=st.sampled_from(Binding),
        confirmation=texts,
        issued_at=st.just(AT),
        expires_at=INSTANTS,
        max_expires_at=INSTANTS,
        decision_id=texts,
        policies=st.lists(texts, max_size=2).map(tuple),
        policy_revision=texts,
        index=st.just(7),
        renewals=st.integers(0, 9),
    )


def entry(lease: Lease, kind: Kind, asserted: Mapping[str, Json]) -> bytes:
    """Return the entry of a lease, with what `lease.permit` says in it."""
    return canonical.encode(
        Entry(
            kind=kind,
            at=AT,
            tenant=lease.tenant,
            task_id=lease.task_id,
            observed={"principal": lease.holder, "method": "x509_svid", "proof": "00"},
            asserted=asserted,
            decided={
                "decision_id": lease.decision_id,
                "effect": "permit",
                "policies": list(lease.policies),
                "policy_revision": lease.policy_revision,
                "risk": 8,
                "risk_factors": ["sensitivity+8"],
            },
            effected=lease_facts(lease),
        )
    )


def parsed(body: bytes) -> int:
    """Return the end by way of the reading that every entry has."""
    (effect,) = (found for found in effects(7, body) if isinstance(found, LeaseIssued | LeaseRenewed))
    return to_micros(effect.lease.expires_at)


KINDS = st.sampled_from([Kind.LEASE_ISSUED, Kind.LEASE_RENEWED])
SAID = st.sampled_from([{}, {"explanation": "00ff"}])


@given(leases(PLAIN), KINDS, SAID)
def test_an_entry_in_the_usual_form_need_not_be_parsed(lease: Lease, kind: Kind, said: Mapping[str, Json]) -> None:
    assert end_of(entry(lease, kind, said)) == to_micros(lease.expires_at)


@given(leases(TEXTS), KINDS, SAID)
def test_it_says_what_parsing_says_or_nothing(lease: Lease, kind: Kind, said: Mapping[str, Json]) -> None:
    body = entry(lease, kind, said)
    assert end_of(body) in (None, parsed(body))


@given(leases(PLAIN), st.data())
def test_whatever_is_altered_it_says_what_parsing_says_or_nothing(lease: Lease, data: st.DataObject) -> None:
    body = entry(lease, Kind.LEASE_ISSUED, {})
    start = data.draw(st.integers(0, len(body) - 1))
    end = data.draw(st.integers(start, min(start + 3, len(body))))
    altered = body[:start] + data.draw(st.binary(max_size=2) | st.sampled_from([b"0", b'"', b",", b"{}"])) + body[end:]
    found = end_of(altered)
    assert found is None or found == parsed(altered)


def test_no_other_entry_is_taken_for_a_lease_s() -> None:
    assert end_of(canonical.encode(Entry(kind=Kind.LEASE_RELEASED, at=AT, tenant="", effected={"lease": "a"}))) is None


@pytest.mark.parametrize("odd", [None, 7, "text", b"", b"{}"])
def test_what_is_no_entry_is_left_to_others(odd: object) -> None:
    assert end_of(odd) is None
