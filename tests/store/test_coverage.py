"""What a selector covers: the model, both forms of SQL on both databases, and verifiers say the same."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from broker.credential.claims import Claims
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding, Lease
from broker.model.principal import ANY_TENANT
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.sdk.verify.revocations import Revocations
from broker.store import coverage, leases, rules
from broker.store.database import Database, open_database
from broker.store.schema import leases as table

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
MOST = 1_000
# Names that one could take for another: by capitals, as a beginning or an end, or as wildcards of SQL.
NAMES = st.sampled_from(["a", "A", "aa", "b", "a_b", "aXb", "%", "_", "a.b-c"])
TENANTS = st.sampled_from(["acme", "ACME", "globex"])
RESOURCES = st.sampled_from(
    ["https://a.example", "https://a.example/", "https://A.example", "urn:a%", "https://a.exampl"]
)
HOSTILE = st.sampled_from(['{"tool":"a"', 'a"', '\\"tool\\":\\"a', "'", "é", "{}"])
CONSTRAINTS = st.lists(st.builds(lambda value: Constraint("/x", Operator.EQ, (value,)), HOSTILE | NAMES), max_size=2)
GRANTS = st.lists(st.builds(Grant, NAMES, CONSTRAINTS.map(tuple)), min_size=1, max_size=3, unique_by=lambda g: g.tool)


@st.composite
def kept_leases(draw: st.DrawFn) -> list[Lease]:
    ids = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return [
        Lease(
            id=lease_id,
            tenant=draw(TENANTS),
            task_id=draw(NAMES),
            holder=draw(NAMES),
            resource=draw(RESOURCES),
            grants=tuple(draw(GRANTS)),
            binding=Binding.IDENTITY,
            issued_at=NOW,
            expires_at=NOW + timedelta(minutes=5),
            max_expires_at=NOW + timedelta(hours=1),
            decision_id="d",
            policies=(),
            policy_revision="r",
            index=2 * number,
        )
        for number, lease_id in enumerate(ids)
    ]


TARGETS = st.one_of(
    st.tuples(st.sampled_from([Target.LEASE, Target.TASK, Target.AGENT]), NAMES),
    st.tuples(st.just(Target.TOOL), st.builds(lambda resource, tool: f"{resource}#{tool}", RESOURCES, NAMES)),
    st.just((Target.ALL, "")),
)
SELECTORS = st.lists(
    st.builds(lambda tenant, named: Selector(tenant, *named), TENANTS | st.just(ANY_TENANT), TARGETS),
    min_size=1,
    max_size=4,
    unique=True,
)


def test_python_sql_and_verifiers_agree_on_what_is_covered(database_url: str) -> None:
    with closing(open_database(database_url)) as database:

        @given(kept_leases(), SELECTORS, st.integers(-1, 8))
        @settings(max_examples=120)
        def agree(kept: list[Lease], selectors: list[Selector], index: int) -> None:
            check(database, kept, selectors, index)

        agree()


def check(database: Database, kept: list[Lease], selectors: list[Selector], index: int) -> None:
    """Try it in a transaction that is undone."""
    with closing(database.begin()) as connection:
        leases.add(connection, kept)
        for selector in selectors:
            covered = {lease.id for lease in leases.page(connection, selector, None, None, MOST)}
            assert covered == {lease.id for lease in kept if selector in lease.selectors()}
        recorded = [rule(2 * number + index, selector) for number, selector in enumerate(selectors)]
        rules.add(connection, recorded)
        dead = {lease.id for lease in kept if any(_ends(rule, lease) for rule in recorded)}
        assert _ended(connection) == dead
        fetched = leases.fetch(connection, [lease.id for lease in kept]).values()
        assert {lease.id for lease in fetched if lease.revoked_index is not None} == dead
        verifier = Revocations()
        verifier.apply(recorded)
        assert {lease.id for lease in kept if verifier.ended_by(_claims(lease)) is not None} == dead


def rule(index: int, selector: Selector) -> RevocationRule:
    return RevocationRule(
        index=index, selector=selector, cause=Cause.OPERATOR, recorded_at=NOW, relevant_until=NOW + timedelta(days=1)
    )


def _ends(rule: RevocationRule, lease: Lease) -> bool:
    return rule.selector in lease.selectors() and rule.index > lease.index


def _ended(connection: Connection) -> set[str]:
    return set(connection.execute(select(table.c.id).where(coverage.ended())).scalars())


def _claims(lease: Lease) -> Claims:
    return Claims(
        issuer="https://broker.example",
        audience=lease.resource,
        subject=lease.holder,
        lease_id=lease.id,
        task_id=lease.task_id,
        tenant=lease.tenant,
        index=lease.index,
        grants=lease.grants,
        binding=lease.binding,
        issued_at=lease.issued_at,
        expires_at=lease.expires_at,
    )
