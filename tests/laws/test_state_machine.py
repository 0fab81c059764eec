"""Random lives of a broker, with the laws checked after every step against a model that a reader can see through."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from broker.credential import jose
from broker.lease.expire import record_expiry
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.lease import LeaseState
from broker.model.selector import Selector, Target
from broker.model.task import Task, TaskState
from broker.store import leases, migrate, verification
from tests.support.world import REPO, RESEARCHER, WRITER, World, opened

AGENTS = {"researcher": RESEARCHER, "writer": WRITER}


@dataclass
class Known:
    """What the model knows of a lease: who has it, and the instant at which it must be dead."""

    issued: Issued
    agent: str
    task: str
    expires_at: datetime
    dead: bool = False


@dataclass
class Model:
    tasks: dict[str, Task] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    leases: dict[str, Known] = field(default_factory=dict)
    locks: dict[str, Selector] = field(default_factory=dict)


class BrokerLife(RuleBasedStateMachine):
    tasks = Bundle("tasks")
    leases = Bundle("leases")
    locks = Bundle("locks")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'broker.db'}"
        self.model = Model()
        self.world: World

    @initialize()
    def begin(self) -> None:
        migrate.upgrade(self.url)
        self.world = self.loop.run_until_complete(self.stack.enter_async_context(opened(self.url)))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()
        report = verification.verify(self.url)
        self.folder.cleanup()
        assert report.ok, report.findings

    # What people do.

    @rule(target=tasks, minutes=st.integers(1, 120))
    def declare(self, minutes: int) -> str:
        deadline = self.world.clock() + timedelta(minutes=minutes)
        task = self.loop.run_until_complete(self.world.task(deadline=deadline))
        self.model.tasks[task.id] = task
        return task.id

    @rule(
        target=leases,
        task=tasks,
        agent=st.sampled_from(sorted(AGENTS)),
        tool=st.sampled_from(["read_file", "list_files"]),
    )
    def issue(self, task: str, agent: str, tool: str) -> str:
        declared = self.model.tasks[task]
        live = task not in self.model.ended and self.world.clock() < declared.deadline
        try:
            issued = self.loop.run_until_complete(self.world.issue(declared, tool, agent=AGENTS[agent]))
        except Refusal as refusal:
            self._refused_rightly(refusal.reason, live=live, locked=self._locked(agent))
            return ""
        assert live, "law 1: a credential for a task that does not live"
        assert not self._locked(agent), "a credential in spite of a lock"
        self.model.leases[issued.lease.id] = Known(issued, agent, task, issued.lease.expires_at)
        return issued.lease.id

    @rule(lease=leases)
    def renew(self, lease: str) -> None:
        known = self.model.leases.get(lease)
        if known is None:
            return
        try:
            renewed = self.loop.run_until_complete(self.world.renew(known.issued, AGENTS[known.agent]))
        except Refusal:
            return
        assert not self._dead(known), "a dead lease was renewed"
        assert renewed.lease.expires_at <= self.model.tasks[known.task].deadline, "law 4: beyond the task's deadline"
        assert renewed.lease.expires_at <= known.issued.lease.max_expires_at
        known.expires_at = renewed.lease.expires_at

    @rule(lease=leases)
    def release(self, lease: str) -> None:
        if known := self.model.leases.get(lease):
            self.loop.run_until_complete(self.world.release(known.issued, AGENTS[known.agent]))
            known.dead = True

    @rule(task=tasks)
    def end(self, task: str) -> None:
        self.loop.run_until_complete(self.world.end(self.model.tasks[task], TaskState.COMPLETED))
        self.model.ended.add(task)
        for known in self.model.leases.values():
            known.dead |= known.task == task

    @rule(agent=st.sampled_from(sorted(AGENTS)))
    def revoke_agent(self, agent: str) -> None:
        self.loop.run_until_complete(self.world.revoke(Selector("acme", Target.AGENT, AGENTS[agent].id)))
        for known in self.model.leases.values():
            known.dead |= known.agent == agent

    @rule(tool=st.sampled_from(["read_file", "list_files"]))
    def revoke_tool(self, tool: str) -> None:
        self.loop.run_until_complete(self.world.revoke(Selector("acme", Target.TOOL, f"{REPO}#{tool}")))
        for known in self.model.leases.values():
            known.dead |= known.issued.lease.grants[0].tool == tool

    @rule(tenant=st.sampled_from(["acme", "globex", "*"]))
    def revoke_tenant(self, tenant: str) -> None:
        self.loop.run_until_complete(self.world.revoke(Selector(tenant, Target.ALL)))
        for known in self.model.leases.values():
            known.dead |= tenant != "globex"

    @rule(target=locks, agent=st.sampled_from(sorted(AGENTS)))
    def lock(self, agent: str) -> str:
        selector = Selector("acme", Target.AGENT, AGENTS[agent].id)
        lock_id = self.loop.run_until_complete(self.world.lock(selector))
        self.model.locks[lock_id] = selector
        return lock_id

    @rule(lock=consumes(locks))
    def unlock(self, lock: str) -> None:
        self.loop.run_until_complete(self.world.unlock(lock))
        del self.model.locks[lock]

    @rule(seconds=st.integers(1, 900))
    def wait(self, seconds: int) -> None:
        self.world.clock.move(timedelta(seconds=seconds))

    @precondition(lambda self: self.model.leases)
    @rule()
    def sweep(self) -> None:
        self.loop.run_until_complete(record_expiry(self.world.desk))

    # The laws.

    @invariant()
    def dead_means_dead(self) -> None:
        for known, state in self._states():
            if self._dead(known):
                assert state is not LeaseState.LIVE, "laws 3 and 6: a dead lease is live"
            else:
                assert state is LeaseState.LIVE, "a lease died without a cause"

    @invariant()
    def tokens_say_what_the_record_says(self) -> None:
        for known in self.model.leases.values():
            claims = jose.decode(known.issued.token, self.world.keys)
            assert claims.lease_id == known.issued.lease.id
            assert claims.index == known.issued.lease.index
            assert claims.expires_at <= known.expires_at

    def _states(self) -> list[tuple[Known, LeaseState]]:
        if not self.model.leases:
            return []
        found = self.world.desk.database.read_now(lambda connection: leases.fetch(connection, list(self.model.leases)))
        now = self.world.clock()
        return [(known, found[lease_id].state(now)) for lease_id, known in self.model.leases.items()]

    def _dead(self, known: Known) -> bool:
        return known.dead or self.world.clock() >= known.expires_at

    def _refused_rightly(self, reason: Reason, *, live: bool, locked: bool) -> None:
        """Law 1 the other way round: what has proof, purpose and permission is not refused."""
        if reason is Reason.LOCKED:
            assert locked
        else:
            assert not live or reason is Reason.LIFETIME_EXHAUSTED, reason

    def _locked(self, agent: str) -> bool:
        return any(selector.value == AGENTS[agent].id for selector in self.model.locks.values())


@pytest.fixture(autouse=True)
def _no_garbage() -> None:
    """Hypothesis parses this file; before 3.12 that fails if a finalizer that parses too runs in the middle of it."""
    gc.collect()


BrokerLife.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestBrokerLife = BrokerLife.TestCase
