"""Hold rows against the entries that they come from, before anything is signed on their word.

A row names the entries that made it. Each is shown to be under the ledger's head by its audit path, and read anew; a
row that says anything else was altered by somebody else than a broker. Nothing here believes a hash that is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from broker.audit import proof
from broker.audit.canonical import MalformedEntry
from broker.audit.effects import Adopted, Effect, LeaseIssued, LeaseRenewed, TaskBegun, TaskEnded, TaskExtended
from broker.audit.readings import effects
from broker.audit.tree import Frontier, leaf_hash
from broker.model.bounded_cache import BoundedCache
from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Lease
from broker.model.task import Task, TaskState
from broker.store import ledger

_MOST_REMEMBERED = 10_000


class Proven:
    """Records that a broker made itself, or has held against their entries, so that each is proven once."""

    def __init__(self) -> None:
        """Remember none."""
        self._records: BoundedCache[str, Task | Lease] = BoundedCache(_MOST_REMEMBERED)

    def remember(self, records: Iterable[Task | Lease]) -> None:
        """Remember records as their own entries make them."""
        for record in records:
            self._records.keep(record.id, record)

    def altered(self, connection: Connection, head: Frontier, records: Iterable[Task | Lease]) -> set[str]:
        """Find the ids of the tasks and leases that are not what their entries under a head say."""
        unproven = [bare for bare in map(_bare, records) if self._records.get(bare.id) != bare]
        if not unproven:
            return set()
        wrong = altered(connection, head, unproven)
        self.remember(bare for bare in unproven if bare.id not in wrong)
        return wrong

    def lease(self, lease_id: str) -> Lease | None:
        """Return a remembered lease, as its entries made it when it was remembered."""
        known = self._records.get(lease_id)
        return known if isinstance(known, Lease) else None


def refuse_altered(what: str, record_id: str) -> Refusal:
    """Make the refusal of whatever would be signed on the word of an altered record."""
    return Refusal(
        Reason.RECORD_ALTERED,
        f"the record of {what} `{record_id}` is not what the ledger says of it, so nothing is signed by it",
        Hints(next="operators: run `credbroker ledger verify`, which names what was altered"),
    )


def altered(connection: Connection, head: Frontier, records: Collection[Task | Lease]) -> set[str]:
    """Find the ids of the tasks and leases that are not what their entries under a head say."""
    recorded = proven(connection, head, {index for record in records for index in _made_by(record)})
    return {record.id for record in records if not _as_recorded(record, recorded)}


def _made_by(record: Task | Lease) -> Sequence[int]:
    return (record.index,) if record.changed_index is None else (record.index, record.changed_index)


def _as_recorded(record: Task | Lease, recorded: Mapping[int, Sequence[Effect]]) -> bool:
    own_effects = [effect for index in _made_by(record) for effect in recorded.get(index, ())]
    if isinstance(record, Task) and record.state is not TaskState.ACTIVE:
        return _have_ended(record, own_effects)
    return (_task(own_effects) if isinstance(record, Task) else _lease(own_effects)) == _bare(record)


def _have_ended(task: Task, own_effects: Iterable[Effect]) -> bool:
    """Report whether entries end a task as its row says. Of an ended task nothing else is of use to anybody."""
    return any(
        (effect.task_id, effect.state) == (task.id, task.state)
        if isinstance(effect, TaskEnded)
        else isinstance(effect, Adopted) and effect.index > task.index and task.state is TaskState.CANCELLED
        for effect in own_effects
    )


def _bare(record: Task | Lease) -> Task | Lease:
    """Leave out what follows from other entries than the record's own."""
    if isinstance(record, Task):
        return replace(record, leases_issued=0, revision=0)
    return replace(record, closed=False, revoked_index=None) if record.closed or record.revoked_index else record


def _task(own_effects: Iterable[Effect]) -> Task | None:
    """Return the task that entries make. How often it was changed is not theirs to say."""
    task: Task | None = None
    for effect in own_effects:
        match effect:
            case TaskBegun():
                task = effect.task
            case TaskExtended() if task is not None and effect.task_id == task.id:
                task = replace(task, deadline=effect.deadline, changed_index=effect.index)
            case _:
                pass
    return task


def _lease(own_effects: Iterable[Effect]) -> Lease | None:
    lease: Lease | None = None
    for effect in own_effects:
        match effect:
            case LeaseIssued():
                lease = effect.lease
            case LeaseRenewed(renewed) if lease is not None and renewed.id == lease.id:
                lease = replace(
                    lease,
                    expires_at=renewed.expires_at,
                    renewals=renewed.renewals,
                    changed_index=renewed.changed_index,
                )
            case _:
                pass
    return lease


def proven(connection: Connection, head: Frontier, indexes: Collection[int]) -> Mapping[int, Sequence[Effect]]:
    """Read the entries at these indexes that are under the head, leaving out any that is not."""
    bodies, at = ledger.fetch(connection, indexes), ledger.spans(connection)
    leaves = {index: leaf for index in bodies if (leaf := at.leaf_of(index)) is not None and leaf < head.size}
    wanted = {node for leaf in leaves.values() for node in proof.inclusion_nodes(leaf, head.size)}
    stored, root = ledger.fetch_nodes(connection, wanted), head.root()
    effects_at: dict[int, Sequence[Effect]] = {}
    for index, leaf in leaves.items():
        try:
            path = proof.prove_inclusion(leaf, head.size, lambda _ids: stored)
            if proof.verify_inclusion(leaf_hash(bodies[index]), leaf, head.size, path, root):
                effects_at[index] = effects(index, bodies[index])
        except (KeyError, MalformedEntry):
            continue  # a node is missing, or an entry is none of ours: nothing is proven by it
    return effects_at
