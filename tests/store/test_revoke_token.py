"""A token that was found: whoever has it can end its lease, in whatever state it was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.credential import jose
from broker.credential.keys import EcSigner
from broker.lease.release import revoke_token
from broker.lease.token import Issued
from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator
from broker.store import leases
from tests.support.world import World, opened

LONG = Grant("read_file", tuple(Constraint(f"/{n}", Operator.EQ, ("x" * 1_000,)) for n in range(31)))


async def is_live(world: World, issued: Issued) -> bool:
    found = await world.desk.database.read(lambda connection: leases.fetch(connection, [issued.lease.id]))
    return found[issued.lease.id].revoked_index is None


async def test_a_token_that_is_too_long_for_verifiers_can_be_given_back(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        claims = jose.decode(issued.token, world.keys)
        object.__setattr__(claims, "grants", (LONG,))
        token = jose.encode(claims, world.desk.signer())
        assert len(token) > 40_000
        with pytest.raises(Refusal):
            jose.decode(token, world.keys)
        await revoke_token(world.desk, world.keys, token)
        assert not await is_live(world, issued)


@pytest.mark.parametrize("cut", [1, 40, 200])
async def test_a_token_of_ours_that_is_not_whole_is_not_called_dead(database_url: str, cut: int) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        damaged = issued.token[:-cut]
        for token in (damaged, issued.token[:120], issued.token + "A", damaged + " "):
            with pytest.raises(Refusal) as refused:
                await revoke_token(world.desk, world.keys, token)
            assert refused.value.reason is Reason.INVALID_ARGUMENT
            assert [violation.field for violation in refused.value.violations] == ["token"]
        assert await is_live(world, issued)


async def test_what_is_not_ours_is_nothing_to_end(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        foreign = jose.encode(jose.decode(issued.token, world.keys), EcSigner.generate())
        for token in ("x", "", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.AA", foreign, "x" * 300_000):
            await revoke_token(world.desk, world.keys, token)
        assert await is_live(world, issued)


async def test_a_token_that_our_key_has_signed_for_another_issuer_is_not_ours_to_end(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        other = replace(jose.decode(issued.token, world.keys), issuer="https://other.example")
        await revoke_token(world.desk, world.keys, jose.encode(other, world.desk.signer()))
        assert await is_live(world, issued)


async def test_a_token_from_beyond_the_ledgers_end_ends_nothing_and_shows_that_we_are_behind(database_url: str) -> None:
    async with opened(database_url) as world:
        issued = await world.issue(await world.task())
        beyond = replace(jose.decode(issued.token, world.keys), index=1_000)
        with pytest.raises(Refusal) as refused:
            await revoke_token(world.desk, world.keys, jose.encode(beyond, world.desk.signer()))
        assert refused.value.reason is Reason.LEDGER_UNAVAILABLE
        assert "is not the one that this broker has signed" in refused.value.message


async def test_what_has_ended_is_not_ended_again(database_url: str) -> None:
    async with opened(database_url) as world:
        task = await world.task()
        released, expired = await world.issue(task), await world.issue(task)
        await world.release(released)
        await revoke_token(world.desk, world.keys, released.token)
        world.clock.move(expired.lease.expires_at - world.clock())
        await revoke_token(world.desk, world.keys, expired.token)
        assert [rule.selector.value for rule in world.rules] == [released.lease.id]
