"""SQL alone revives nothing, widens nothing and hides nothing: rows are held against entries before they count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from broker.lease import tasks
from broker.lease.introspect import introspect
from broker.model.clock import to_micros
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from broker.model.selector import Selector, Target
from tests.support.deployment import Deployment, Scene
from tests.support.world import (
    NOTES,
    ORCHESTRATOR,
    REPO,
    RESEARCHER,
    WRITER,
    ManualClock,
    World,
    principal,
)

REPO_VERIFIER = replace(principal("spiffe://example.org/tools/repo", Role.VERIFIERS), resources=frozenset({REPO}))
SAFE = {
    Reason.RECORD_ALTERED,
    Reason.LEASE_NOT_LIVE,
    Reason.LEASE_NOT_FOUND,
    Reason.TASK_NOT_ACTIVE,
    Reason.TASK_NOT_FOUND,
    Reason.TOOL_NOT_DECLARED,
    Reason.LOCKED,
}
"""What whoever asks for more than the ledger gives may be told."""


Act = Callable[[World, Scene], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """Statements that work on the database, what would be gained by them, and how the row is named."""

    statements: Callable[[Scene], list[str]]
    acts: list[Act]
    named: Callable[[Scene], str]


def _lease_is(assignment: str) -> Callable[[Scene], list[str]]:
    return lambda scene: [f"UPDATE leases SET {assignment} WHERE id = '{scene.live.lease.id}'"]


def _task_is(assignment: str) -> Callable[[Scene], list[str]]:
    return lambda scene: [f"UPDATE tasks SET {assignment} WHERE id = '{scene.task.id}'"]


def _lease_altered(column: str) -> Callable[[Scene], str]:
    return lambda scene: f"leases: id `{scene.live.lease.id}` was altered: `{column}`"


def _task_altered(column: str) -> Callable[[Scene], str]:
    return lambda scene: f"tasks: id `{scene.task.id}` was altered: `{column}`"


USE_LIVE: list[Act] = [
    lambda world, scene: world.renew(scene.live),
    lambda world, scene: world.issue(scene.task, request_id=scene.task.id),
]
LATER = to_micros(ManualClock().now + timedelta(days=3))
SEARCH = '[{"tool":"search_notes"}]'
WIDER = '[{"tool":"list_files"},{"tool":"read_file"}]'
CASES = {
    "the rule of a revoked lease is deleted": Case(
        lambda scene: [f"DELETE FROM rules WHERE value = '{scene.revoked.lease.id}'"],
        [
            lambda world, scene: world.renew(scene.revoked),
            lambda world, scene: world.issue(scene.task, request_id=scene.ended.id),
        ],
        lambda _scene: "rules: index `6` is missing",
    ),
    "a lease has more grants": Case(_lease_is(f"grants = '{WIDER}'"), USE_LIVE, _lease_altered("grants")),
    "a lease lives longer": Case(_lease_is(f"expires_at = {LATER}"), USE_LIVE, _lease_altered("expires_at")),
    "a lease may be renewed for longer": Case(
        _lease_is(f"max_expires_at = {LATER}"), USE_LIVE, _lease_altered("max_expires_at")
    ),
    "a lease is bound to nobody": Case(_lease_is("binding = 'bearer'"), USE_LIVE, _lease_altered("binding")),
    "a lease is for another resource": Case(
        _lease_is(f"resource = '{NOTES}', grants = '{SEARCH}'"), USE_LIVE, _lease_altered("resource`, `grants")
    ),
    "a lease has another holder": Case(
        _lease_is(f"holder = '{WRITER.id}'"),
        [*USE_LIVE, lambda world, scene: world.renew(scene.live, agent=WRITER)],
        _lease_altered("holder"),
    ),
    "an ended task is reopened": Case(
        lambda scene: [f"UPDATE tasks SET state = 'active', ended_at = NULL WHERE id = '{scene.ended.id}'"],
        [lambda world, scene: world.issue(scene.ended)],
        lambda scene: f"tasks: id `{scene.ended.id}` was altered: `state`, `ended_at`",
    ),
    "an ended task is reopened as if it had never ended": Case(
        lambda scene: [
            f"UPDATE tasks SET state = 'active', ended_at = NULL, changed_index = NULL WHERE id = '{scene.ended.id}'",
            f"DELETE FROM rules WHERE value = '{scene.ended.id}'",
        ],
        [lambda world, scene: world.issue(scene.ended)],
        lambda scene: f"tasks: id `{scene.ended.id}` was altered: `state`, `ended_at`, `changed_index`",
    ),
    "a task declares more tools": Case(
        _task_is("tools = replace(tools, 'create_issue', 'list_files')"),
        [lambda world, scene: world.issue(scene.task, "list_files")],
        _task_altered("tools"),
    ),
    "a task names more agents": Case(
        _task_is(f'agents = \'["{RESEARCHER.id}","{WRITER.id}"]\''),
        [lambda world, scene: world.issue(scene.task, agent=WRITER)],
        _task_altered("agents"),
    ),
    "a lock is deleted": Case(
        lambda scene: [f"DELETE FROM locks WHERE id = '{scene.lock_id}'"],
        [lambda world, scene: world.issue(scene.task, "search_notes", resource=NOTES)],
        lambda scene: f"locks: id `{scene.lock_id}` is missing",
    ),
    "a lock is said to be lifted": Case(
        lambda scene: [f"UPDATE locks SET lifted_index = 9 WHERE id = '{scene.lock_id}'"],
        [lambda world, scene: world.issue(scene.task, "search_notes", resource=NOTES)],
        lambda scene: f"locks: id `{scene.lock_id}` was altered: `lifted_index`",
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
async def test_nothing_is_signed_by_a_row_that_was_altered(deployment: Deployment, case: Case) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        deployment.sql(*case.statements(scene))
        for act in case.acts:
            await _refused(act, world, scene)
    async with deployment.opened() as world:
        for act in case.acts:
            await _refused(act, world, scene)
        assert (await world.issue(await world.task())).token, "all others go on"
    assert case.named(scene) in deployment.problems()


async def _refused(act: Act, world: World, scene: Scene) -> None:
    for _ in range(2):  # what was refused once is known to the broker, and must not count as proven
        with pytest.raises(Refusal) as refused:
            await act(world, scene)
        assert refused.value.reason in SAFE, refused.value


@dataclass(frozen=True)
class Hidden:
    """A statement that calls something ended which is not; how it is ended in truth, or else `told` to be altered."""

    statement: Callable[[Scene], str]
    end: Act
    told: bool


HIDDEN = {
    "a rule is made up": Hidden(
        lambda scene: (
            'INSERT INTO rules ("index", tenant, target, value, cause, recorded_at, relevant_until, kept_until) '
            f"VALUES (1000, 'acme', 'lease', '{scene.live.lease.id}', 'released', 0, {LATER}, {LATER})"
        ),
        lambda world, scene: world.release(scene.live),
        told=False,
    ),
    "a lease is said to be closed": Hidden(
        lambda scene: f"UPDATE leases SET closed = true WHERE id = '{scene.live.lease.id}'",
        lambda world, scene: world.release(scene.live),
        told=False,
    ),
    "a lease is said to have expired": Hidden(
        lambda scene: f"UPDATE leases SET expires_at = 0 WHERE id = '{scene.live.lease.id}'",
        lambda world, scene: world.release(scene.live),
        told=True,
    ),
    "a task is said to have ended": Hidden(
        lambda scene: f"UPDATE tasks SET state = 'completed' WHERE id = '{scene.task.id}'",
        lambda world, scene: world.end(scene.task),
        told=True,
    ),
    "a task is said to have ended when another did": Hidden(
        lambda scene: (
            "UPDATE tasks SET state = 'completed', ended_at = 0, deadline = 0, changed_index = "
            f"(SELECT other.changed_index FROM tasks AS other WHERE other.id = '{scene.ended.id}') "
            f"WHERE id = '{scene.task.id}'"
        ),
        lambda world, scene: world.end(scene.task),
        told=True,
    ),
}


@pytest.mark.parametrize("hidden", [pytest.param(hidden, id=name) for name, hidden in HIDDEN.items()])
async def test_nobody_is_told_that_something_has_ended_which_has_not(deployment: Deployment, hidden: Hidden) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
    deployment.sql(hidden.statement(scene))
    assert deployment.problems() != []
    async with deployment.opened() as world:
        if hidden.told:
            with pytest.raises(Refusal) as refused:
                await hidden.end(world, scene)
            assert refused.value.reason is Reason.RECORD_ALTERED
        else:
            await hidden.end(world, scene)
            lease = scene.live.lease
            assert world.follower.in_force.ended_by(lease.selectors(), lease.index) is not None


async def test_a_revoked_token_is_not_called_active_because_its_rule_is_gone(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        assert await introspect(world.desk, REPO_VERIFIER, world.keys, scene.live.token) is not None
        deployment.sql(f"DELETE FROM rules WHERE value = '{scene.revoked.lease.id}'")
        assert await introspect(world.desk, REPO_VERIFIER, world.keys, scene.revoked.token) is None
        keys = world.keys
    async with deployment.opened() as world:
        assert await introspect(world.desk, REPO_VERIFIER, keys, scene.live.token) is not None
        assert await introspect(world.desk, REPO_VERIFIER, keys, scene.revoked.token) is None


async def test_whoever_introspects_while_others_write_is_answered(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)

        async def look() -> None:
            for _ in range(40):
                assert await introspect(world.desk, REPO_VERIFIER, world.keys, scene.live.token) is not None

        async def write() -> None:
            for _ in range(80):
                await world.issue(scene.task)

        await asyncio.gather(look(), look(), write(), write())


async def test_what_has_ended_stays_so_and_says_when(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        await tasks.extend(world.desk, ORCHESTRATOR, scene.task.id, scene.task.deadline + timedelta(hours=1))
        ended, released = await world.end(scene.task), await world.release(scene.revoked)
    async with deployment.opened() as world:
        assert await world.end(scene.task) == ended, "of a task that was extended before"
        assert await world.release(scene.revoked) == released
    assert deployment.problems() == []


async def test_what_was_renewed_and_extended_is_held_against_all_its_entries(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        await world.renew(scene.live)
        await tasks.extend(world.desk, ORCHESTRATOR, scene.task.id, scene.task.deadline + timedelta(hours=1))
    async with deployment.opened() as world:
        assert (await world.renew(scene.live)).lease.renewals == 2
        assert (await world.issue(scene.task)).token
    assert deployment.problems() == []
    deployment.sql(f"UPDATE leases SET renewals = 0 WHERE id = '{scene.live.lease.id}'")
    async with deployment.opened() as world:
        with pytest.raises(Refusal) as refused:
            await world.renew(scene.live)
        assert refused.value.reason is Reason.RECORD_ALTERED


@pytest.mark.parametrize("end_first", [False, True])
async def test_an_operators_rule_for_a_task_is_not_its_end(deployment: Deployment, *, end_first: bool) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        if end_first:
            await world.end(scene.task)
        await world.revoke(Selector("acme", Target.TASK, scene.task.id))
    if end_first:
        deployment.sql(*_task_is("state = 'active', ended_at = NULL, changed_index = NULL")(scene))
    async with deployment.opened() as world:
        if end_first:
            await _refused(lambda world, scene: world.issue(scene.task), world, scene)
        else:
            assert (await world.issue(scene.task)).token


async def test_a_start_without_rows_of_rules_derives_all_anew(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        await asyncio.gather(*(world.issue(scene.task) for _ in range(1_100)))  # so that it is committed to
        assert (world.follower.in_force.committed or 0) > scene.revoked.lease.index
    deployment.sql(f"DELETE FROM rules WHERE value = '{scene.revoked.lease.id}'")
    with capture_logs() as logs:
        async with deployment.opened() as world:
            for act in CASES["the rule of a revoked lease is deleted"].acts:
                await _refused(act, world, scene)
            values = [rule.selector.value for rule in world.follower.in_force.relevant("acme")]
            assert values == [scene.revoked.lease.id, scene.ended.id]
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["ledger.rows_differ"]
    assert deployment.problems() == ["rules: index `6` is missing"]


async def test_a_start_with_all_rows_takes_them_up_without_a_word(deployment: Deployment) -> None:
    async with deployment.opened() as world:
        scene = await Scene.of(world)
        await asyncio.gather(*(world.issue(scene.task) for _ in range(1_100)))
        before = world.follower.in_force.rules()
    with capture_logs() as logs:
        async with deployment.opened() as world:
            assert world.follower.in_force.rules() == before
            await _refused(CASES["a lock is deleted"].acts[0], world, scene)
    assert [log for log in logs if log["log_level"] == "error"] == []
