"""What is too long for the whole, though each part is within its bounds, is refused before anything is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from broker.audit.canonical import MAX_BODY
from broker.config import policy_bundle
from broker.credential import jose
from broker.credential.jose import LONGEST_ISSUED
from broker.lease import issue, revoke
from broker.lease.revoke import LockRequest
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.intent import Intent
from broker.model.principal import Role
from broker.model.selector import Selector, Target
from broker.policy.engine import Policy
from broker.policy.problems import PolicyBundleError
from broker.store import ledger, verification
from broker.store.schema import explanations, leases, tasks
from tests.support.sample_policy import SAMPLE
from tests.support.world import OPERATOR, REPO, RESEARCHER, World, opened, principal

LONG_ID = "spiffe://example.org/agent/researcher/" + "x" * (2_048 - 38)


def narrowed(size: int, more: int = 0) -> Grant:
    """Make a grant whose constraints hold so many letters in texts of at most 1,000."""
    sizes = [1_000] * (size // 1_000) + [size % 1_000 + 1 + more]
    return Grant("read_file", tuple(Constraint(f"/p{n}", Operator.EQ, ("y" * s,)) for n, s in enumerate(sizes)))


async def refused(attempt: Awaitable[object], field: str, bound: int) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await attempt
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.violations] == [field]
    assert str(bound) in caught.value.message
    return caught.value


async def rows(world: World) -> list[int]:
    def count(connection: object) -> list[int]:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[attr-defined]
            for table in (leases, tasks, explanations)
        ] + [ledger.last_index(connection)]  # type: ignore[arg-type]

    return await world.desk.database.read(count)


def accepted(world: World, issued: Issued) -> None:
    assert len(issued.token) <= LONGEST_ISSUED
    assert jose.decode(issued.token, world.keys).grants == issued.lease.grants


async def test_a_token_is_measured_to_the_byte_before_its_lease_is_recorded(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        intent = Intent(task_id=task.id, resource=REPO, grants=(), explanation="it must leave nothing behind")

        async def attempt(size: int) -> Issued:
            return await issue.issue(world.desk, RESEARCHER, replace(intent, grants=(narrowed(size),)))

        low, high = 0, 9_000
        while high - low > 1:
            middle, before = (low + high) // 2, await rows(world)
            try:
                accepted(world, await attempt(middle))
                low = middle
            except Refusal:
                assert await rows(world) == before
                high = middle
        assert len((await attempt(low)).token) > LONGEST_ISSUED - 4
        refusal = await refused(attempt(high), "grants", LONGEST_ISSUED)
        assert "fewer tools" in refusal.message
        longest = await attempt(low)
        accepted(world, await world.renew(longest))
        assert verification.verify(database_url).ok


async def test_long_ids_and_issuers_are_named_as_what_makes_a_token_too_long(database_url: str) -> None:
    async with opened(database_url) as world:
        agent = principal(LONG_ID, Role.AGENTS)
        sample = policy_bundle.load(SAMPLE)
        groups = dict(sample.groups) | {"researchers": (RESEARCHER.id, LONG_ID)}
        policy = Policy(replace(sample, groups=groups))
        world.desk = replace(world.desk, policy=lambda: policy)
        task = await world.task(agents=(RESEARCHER.id, LONG_ID))
        before = await rows(world)
        await refused(world.issue(task, agent=agent), "principal", LONGEST_ISSUED)
        assert await rows(world) == before
        issued = await world.issue(task)
        world.desk = replace(world.desk, issuer="https://broker.example/" + "i" * 5_000)
        await refused(world.renew(issued), "issuer", LONGEST_ISSUED)
        await refused(world.issue(task), "issuer", LONGEST_ISSUED)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tools": tuple(ResourceGrants(f"https://s{n}.example/mcp", tuple(Grant(f"vendor_product_area_operation_number_{t:03d}") for t in range(64))) for n in range(32))}, "tools"),  # noqa: E501
        ({"tools": (ResourceGrants(REPO, tuple(Grant(f"t{t}", (Constraint("/a", Operator.EQ, ("\x01" * 1_000,)),)) for t in range(11))),)}, "tools"),  # noqa: E501
        ({"tools": (ResourceGrants(REPO, (Grant("t", tuple(Constraint("/a", Operator.IN, ("\U0001f600" * 1_024,)) for _ in range(17))),)),)}, "tools"),  # noqa: E501
        ({"agents": tuple(f"spiffe://example.org/agent/{n:02d}{'x' * 2_018}" for n in range(64))}, "agents"),
    ],
)  # fmt: skip
async def test_a_declaration_longer_than_an_entry_is_refused_and_its_field_named(
    database_url: str, changes: dict[str, object], field: str
) -> None:
    async with opened(database_url) as world:
        before = await rows(world)
        outcomes = await asyncio.gather(
            refused(world.task(**changes), field, MAX_BODY), *(world.task() for _ in range(3))
        )
        after = await rows(world)
        assert after == [before[0], before[1] + 3, before[2], before[3] + 3], "the others of its batch are not held up"
        assert isinstance(outcomes[0], Refusal)


async def test_the_largest_that_can_be_revoked_and_locked_fits_an_entry(database_url: str) -> None:
    operator = replace(OPERATOR, id=LONG_ID.replace("researcher", "operator__"))
    async with opened(database_url) as world:
        for selector in (
            Selector("t" * 255, Target.AGENT, LONG_ID),
            Selector("t" * 255, Target.TOOL, f"https://{'r' * 504}#{'t' * 128}"),
        ):
            reason = "\U0001f600" * 512
            _, lock = await revoke.revoke(
                world.desk, operator, selector, reason, LockRequest(lifetime=timedelta(hours=1))
            )
            assert lock is not None
        assert verification.verify(database_url).ok


def many_policies(folder: Path, count: int, length: int) -> Path:
    """Copy the sample bundle, with so many permits more, whose ids have this length."""
    folder.mkdir()
    for file in SAMPLE.rglob("*"):
        if file.is_file():
            copy = folder / file.relative_to(SAMPLE)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    text = "\n".join(
        f'@id("{f"p{n}".ljust(length, "p")}") permit (principal in Broker::Group::"researchers",'
        ' action in Broker::Action::"grant", resource in Broker::Toolset::"repo-read");'
        for n in range(count)
    )
    (folder / "policies" / "many.cedar").write_text(text)
    return folder


async def test_every_policy_of_a_bundle_may_have_its_name_in_an_entry(database_url: str, tmp_path: Path) -> None:
    for count, length in ((1, 129), (300, 120)):
        with pytest.raises(PolicyBundleError, match=r"at most|longer than"):
            policy_bundle.load(many_policies(tmp_path / str(count), count, length))
    policy = Policy(policy_bundle.load(many_policies(tmp_path / "good", 240, 128)))
    async with opened(database_url) as world:
        world.desk = replace(world.desk, policy=lambda: policy)
        task = await world.task()
        issued = await world.issue(task)
        await world.renew(issued)
        stored = await world.desk.database.read(lambda connection: list(ledger.entries(connection)))
    named = [json.loads(entry.body)["decided"].get("policies", ()) for entry in stored]
    assert max(map(len, named)) >= 1
    assert all(len(entry.body) <= MAX_BODY for entry in stored)
