"""SQL about leases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import (
    Connection,
    Select,
    and_,
    func,
    literal,
    select,
    text,
    update,
)

from broker.audit.effects import Effect, LeaseIssued
from broker.model.clock import from_micros, to_micros
from broker.model.lease import Lease
from broker.model.selector import Selector
from broker.store import coverage, rules
from broker.store.aggregate import Aggregate, AtHead, Named
from broker.store.lease_row import LeaseRow
from broker.store.provenance import refuse_altered
from broker.store.quotas import Quotas
from broker.store.rows import Sql, delete_some, insert_rows
from broker.store.rules import Rules
from broker.store.schema import leases
from broker.store.tasks import Tasks

# As the partial indexes say it, word for word: SQLite does not see that `closed = 0` is the same, and would read all.
_CLOSED, _NOT_CLOSED = text("closed"), text("NOT closed")

_SELECT = select(*(leases.c[name] for name in LeaseRow._fields))
_RENEW = Sql(
    "UPDATE leases SET expires_at = :expires_at, renewals = :renewals, changed_index = :changed_index WHERE id = :id"
)


def fetch(connection: Connection, ids: Collection[str]) -> dict[str, Lease]:
    """Find leases by id, each with the rule that ended it, if any."""
    return {lease.id: lease for lease in with_rules(connection, fetch_bare(connection, ids))}


def fetch_bare(connection: Connection, ids: Collection[str]) -> list[Lease]:
    """Find leases by id, whatever rules say of them."""
    return [LeaseRow(*row).lease() for row in connection.execute(_SELECT.where(leases.c.id.in_(ids)))]


def page(
    connection: Connection, selector: Selector, live_at: datetime | None, before: int | None, limit: int
) -> Sequence[Lease]:
    """List the leases a selector covers by descending ledger index, from below `before` on.

    With `live_at`, only those that are live at that instant; a page may then need several looks, and an empty page
    means that there are no more.
    """
    covered: list[Lease] = []
    while len(covered) < limit:
        rows = connection.execute(_selected(selector, live_at, before).limit(limit)).all()
        batch = with_rules(connection, [LeaseRow(*row).lease() for row in rows])
        covered += [lease for lease in batch if live_at is None or lease.revoked_index is None]
        if len(batch) < limit:
            break
        before = batch[-1].index
    return covered[:limit]


def count_live(connection: Connection, selector: Selector, at: datetime, most: int) -> int:
    """Count the live leases a selector covers, up to `most`."""
    matching = (
        _selected(selector, at, None).where(~coverage.ended()).limit(most).with_only_columns(literal(1)).order_by(None)
    )
    return connection.execute(select(func.count()).select_from(matching.subquery())).scalar_one()


def due(connection: Connection, at: datetime, limit: int) -> Sequence[Lease]:
    """List leases whose time is up and whose end is not recorded yet, oldest first."""
    query = _SELECT.where(_NOT_CLOSED, leases.c.expires_at <= to_micros(at))
    rows = connection.execute(query.order_by(leases.c.expires_at).limit(limit))
    return with_rules(connection, [LeaseRow(*row).lease() for row in rows])


def next_due(connection: Connection) -> datetime | None:
    """Report when the next lease is due to be recorded as ended."""
    micros = connection.execute(select(func.min(leases.c.expires_at)).where(_NOT_CLOSED)).scalar_one()
    return None if micros is None else from_micros(micros)


def add(connection: Connection, new: Collection[Lease]) -> None:
    """Insert leases."""
    insert_rows(connection, leases, [LeaseRow.of(lease) for lease in new])


def renew(connection: Connection, renewed: Collection[Lease]) -> None:
    """Write back what renewal changes."""
    rows = [
        {
            "id": lease.id,
            "expires_at": to_micros(lease.expires_at),
            "renewals": lease.renewals,
            "changed_index": lease.changed_index,
        }
        for lease in renewed
    ]
    _RENEW.run(connection, *rows)


def close(connection: Connection, ids: Collection[str]) -> None:
    """Note that the end of leases is recorded."""
    connection.execute(update(leases).where(leases.c.id.in_(ids)).values(closed=True))


def forget(connection: Connection, before: datetime, limit: int) -> int:
    """Delete closed leases that expired before an instant, at most so many; report how many."""
    return delete_some(connection, leases, and_(_CLOSED, leases.c.expires_at < to_micros(before)), limit)


def _selected(selector: Selector, live_at: datetime | None, before: int | None) -> Select:  # type: ignore[type-arg]
    query = _SELECT.where(*coverage.leases_of(selector)).order_by(leases.c.index.desc())
    if live_at is not None:
        query = query.where(leases.c.expires_at > to_micros(live_at))
    return query if before is None else query.where(leases.c.index < before)


def with_rules(connection: Connection, stored: Sequence[Lease]) -> list[Lease]:
    """Find, for each lease, the first rule that covers it."""
    if not stored:
        return []
    shared: dict[tuple[object, ...], set[Selector]] = {}  # of leases that differ in nothing but their own id
    selectors = []
    for lease in stored:
        alike = (lease.tenant, lease.task_id, lease.holder, lease.resource, lease.grants)
        own = lease.own_selectors()
        if alike not in shared:
            shared[alike] = lease.selectors() - own
        selectors.append((shared[alike], own))
    recorded = rules.fetch(connection, set().union(*shared.values(), *(own for _, own in selectors)))
    if not recorded:
        return list(stored)
    return [_ended(lease, [*others, *own], recorded) for lease, (others, own) in zip(stored, selectors, strict=True)]


def _ended(lease: Lease, selectors: Iterable[Selector], recorded: Mapping[Selector, Sequence[int]]) -> Lease:
    ends = [index for selector in selectors for index in recorded.get(selector, ()) if index > lease.index]
    return replace(lease, revoked_index=min(ends)) if ends else lease


class Leases(Aggregate):
    """The leases of a transaction. `tokens_until` is when the last token is dead, of all that there ever were."""

    def __init__(self, head: AtHead, tasks: Tasks, quotas: Quotas, rules: Rules) -> None:
        """Begin with none. A new lease counts against its task and tenant; rules say which have ended."""
        self.tokens_until = head.in_force.tokens_until
        self._head = head
        self._tasks, self._quotas, self._rules = tasks, quotas, rules
        self._leases: dict[str, Lease] = {}
        self._altered: set[str] = set()
        self._new: list[Lease] = []
        self._renewed: dict[str, Lease] = {}
        self._closed: list[str] = []
        self._last_to_end: Lease | None = None  # of those made here, if it outlives all that were there

    def find(self, lease_id: str) -> Lease | None:
        """Find a lease that the change has named, or one made in this transaction.

        Raises:
            Refusal: RECORD_ALTERED.
        """
        if lease_id in self._altered:
            raise refuse_altered("lease", lease_id)
        lease = self._leases.get(lease_id)
        if lease is None or not self._rules.any_since(lease.index):
            return lease
        ends = self._rules.ends(lease.selectors(), lease.index)
        if not ends and lease.expires_at <= self._head.at:  # what ended it need not be in force any more
            (lease,) = with_rules(self._head.connection, [lease])
        return replace(lease, revoked_index=min(ends, default=lease.revoked_index))

    def add(self, lease: Lease) -> None:
        """Add a new lease, and count it."""
        self._leases[lease.id] = lease
        self._new.append(lease)
        self._note_end(lease)
        self._tasks.count_lease(lease.task_id)
        self._quotas.count_lease(lease.tenant)

    def renew(self, lease: Lease) -> None:
        """Change a lease's end."""
        self._leases[lease.id] = self._renewed[lease.id] = lease
        self._note_end(lease)

    def close(self, ids: Iterable[str]) -> None:
        """Note that the end of leases is recorded."""
        self._closed.extend(ids)

    def prefetch(self, named: Collection[Named]) -> None:
        """Read leases, and hold each against its entries."""
        if wanted := {lease for change in named for lease in change.leases}:
            rows = fetch_bare(self._head.connection, wanted)
            self._altered = self._head.altered(rows)
            self._leases = {lease.id: lease for lease in rows}

    def tail(self) -> Sequence[Effect]:
        """Name the lease that outlives all others, if it is one of these."""
        return () if self._last_to_end is None else [LeaseIssued(self._last_to_end)]

    def write(self) -> None:
        """Insert what is new, then write what has changed, of new leases as well."""
        if self._new:
            add(self._head.connection, self._new)
        if self._renewed:
            renew(self._head.connection, self._renewed.values())
        if self._closed:
            close(self._head.connection, self._closed)

    def committed(self) -> None:
        """Remember what was recorded here: it need not be proven again."""
        self._head.proven.remember([*self._new, *self._renewed.values()])

    def _note_end(self, lease: Lease) -> None:
        if lease.expires_at > self.tokens_until:
            self.tokens_until, self._last_to_end = lease.expires_at, lease
