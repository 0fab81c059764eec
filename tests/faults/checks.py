"""How to hold a broker's database, and its next life, to what it has acknowledged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping

import pytest
from sqlalchemy import select

from broker.audit import checkpoint
from broker.audit.note import VerifierKey, verify_note
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.task import TaskState
from broker.sandbox.broker import RESOURCE, TOOL, Broker
from broker.sdk.client.client import Client
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store import leases, ledger, schema, tasks
from broker.store.database import open_database
from broker.store.verification import verify
from tests.faults.history import History, refusal_of


def check_database(url: str, vkey: str, history: History) -> None:
    """Everything that was acknowledged has its row and its entry, and the ledger is whole."""
    report = verify(url, vkey)
    assert report.ok, report.findings
    database = open_database(url)
    try:
        with database.snapshot() as connection:
            found = leases.fetch(connection, history.tokens)
            assert found.keys() == history.tokens.keys()
            for lease in found.values():
                entry = ledger.entry(connection, lease.index)
                assert entry is not None
                assert json.loads(entry.body)["effected"]["lease"] == lease.id
                assert lease.expires_at >= history.expires[lease.id], "a renewal was lost"
            known = tasks.fetch(connection, history.created)
    finally:
        database.close()
    assert known.keys() == history.created
    assert all(known[task_id].state is TaskState.COMPLETED for task_id in history.ended)


async def check_next_life(broker: Broker, history: History, strange: frozenset[Reason] = frozenset()) -> None:
    """What was acknowledged as dead is dead to a verifier that starts now, and nothing else is refused.

    `strange` are reasons for which a token may be refused besides, dead or not.
    """
    async with watching(Verifier(RESOURCE), Endpoint.of(broker.address, broker.svids / "verifier")) as verifier:
        for lease_id, tokens in history.tokens.items():
            reasons = {refusal_of(verifier, token) for token in tokens}
            assert reasons <= {Reason.TOKEN_REVOKED, None} | strange
            assert lease_id not in history.dead or None not in reasons
    async with Client(broker.address, broker.svids / "researcher") as agent:
        for task_id in list(history.ended)[-3:]:
            with pytest.raises(Refusal) as refused:
                await agent.issue(task_id, RESOURCE, [Grant(TOOL)])
            assert refused.value.reason is Reason.TASK_NOT_ACTIVE


async def check_lost_answers(broker: Broker, url: Callable[[], str], history: History) -> None:
    """Ask again, twice, for what was never answered: a request has one lease or none, and no lease has no request."""
    given, refused = set(history.tokens), 0
    for request_id, task_id in history.unanswered.items():
        async with Client(broker.address, broker.svids / "researcher", ids=_always(request_id)) as agent:
            try:
                first, second = [await agent.issue(task_id, RESOURCE, [Grant(TOOL)]) for _ in range(2)]
            except Refusal as refusal:
                if refusal.reason not in {Reason.TASK_NOT_ACTIVE, Reason.LEASE_NOT_LIVE}:
                    raise
                refused += 1
            else:
                assert first.lease_id == second.lease_id
                given.add(first.lease_id)
    assert len(_leases_of(url(), history.created) - given) <= refused


def check_one_history(url: str, vkey: str, notes: Iterable[str]) -> None:
    """Every checkpoint that was ever shown is one of this ledger, by hashes that are computed here (RFC 9162)."""
    key = VerifierKey.parse(vkey)
    seen = [checkpoint.parse(verify_note(note, key)) for note in notes]
    roots = _roots(url)
    assert all(roots.get(point.size) == point.root for point in seen)


def _always(request_id: str) -> Callable[[], str]:
    return lambda: request_id


def _leases_of(url: str, task_ids: Iterable[str]) -> set[str]:
    database = open_database(url)
    try:
        with database.snapshot() as connection:
            query = select(schema.leases.c.id).where(schema.leases.c.task_id.in_(list(task_ids)))
            return set(connection.execute(query).scalars())
    finally:
        database.close()


def _roots(url: str) -> Mapping[int, bytes]:
    """Return the tree's root at every size."""
    database = open_database(url)
    peaks: list[tuple[int, bytes]] = []
    found = {0: hashlib.sha256().digest()}
    try:
        with database.snapshot() as connection:
            for entry in ledger.entries(connection):
                peaks.append((0, hashlib.sha256(b"\0" + entry.body).digest()))
                while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
                    (level, left), (_, right) = peaks[-2:]
                    peaks[-2:] = [(level + 1, hashlib.sha256(b"\1" + left + right).digest())]
                root = peaks[-1][1]
                for _, left in reversed(peaks[:-1]):
                    root = hashlib.sha256(b"\1" + left + root).digest()
                found[entry.index + 1] = root
    finally:
        database.close()
    return found
