"""What must live as long as the daemon: each way to end, at each time, and what is in force from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from broker.jobs.supervisor import PartEnded, Supervisor

LONG = 30.0  # seconds: however busy the machine is


async def fail_at(event: asyncio.Event) -> None:
    await event.wait()
    raise ZeroDivisionError("the part is broken")


async def end_at(event: asyncio.Event) -> None:
    await event.wait()


async def cancel_at(event: asyncio.Event) -> None:
    await event.wait()
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def work() -> None:
    await asyncio.Event().wait()


ENDS = pytest.mark.parametrize(
    ("part", "says"),
    [
        (fail_at, r"`feed` has ended: ZeroDivisionError\('the part is broken'\)"),
        (end_at, "`feed` has ended: it has returned"),
        (cancel_at, "`feed` has ended: it was cancelled"),
    ],
)
Part = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def supervised(daemon: Callable[[Supervisor], Awaitable[None]], patience: float = LONG) -> None:
    async with Supervisor(patience) as parts:
        await daemon(parts)


async def test_told_to_stop_it_waits_no_longer_and_ends_what_it_has_started() -> None:
    never = asyncio.Event()
    elsewhere = asyncio.create_task(end_at(never))
    async with Supervisor() as parts:
        parts.start("one", end_at(never))
        parts.watch(elsewhere)
        parts.stop()
        await parts.wait()
    assert asyncio.all_tasks() == {asyncio.current_task(), elsewhere}
    never.set()
    await elsewhere


@ENDS
async def test_under_load_an_end_is_known_at_once_and_the_others_live_while_the_daemon_drains(
    part: Part, says: str
) -> None:
    fault, grants = asyncio.Event(), [True]
    other = asyncio.create_task(work())

    async def daemon(parts: Supervisor) -> None:
        parts.when_over(grants.clear)
        parts.start("feed", part(fault))
        parts.start("writer", asyncio.wait_for(asyncio.shield(other), None))
        waiting = asyncio.create_task(parts.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert grants
        fault.set()
        with pytest.raises(PartEnded):
            await waiting
        assert not grants, "before anybody has waited"
        assert {task.get_name() for task in asyncio.all_tasks()} >= {"writer"}

    with pytest.raises(PartEnded, match=says):
        await supervised(daemon)
    assert not any(task.get_name() == "writer" for task in asyncio.all_tasks())
    other.cancel()


@ENDS
async def test_at_start_an_end_is_what_the_daemon_ends_with_whatever_fails_because_of_it(part: Part, says: str) -> None:
    fault = asyncio.Event()
    fault.set()

    async def daemon(parts: Supervisor) -> None:
        parts.start("feed", part(fault))
        await asyncio.sleep(0.01)
        raise LookupError("the writer is gone, so this cannot be recorded")

    with pytest.raises(PartEnded, match=says) as ended:
        await supervised(daemon)
    assert isinstance(ended.value.__context__, LookupError)


async def test_the_cause_is_kept() -> None:
    fault = asyncio.Event()
    fault.set()

    async def daemon(parts: Supervisor) -> None:
        parts.start("feed", fail_at(fault))
        await parts.wait()

    with pytest.raises(PartEnded) as ended:
        await supervised(daemon)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)


async def test_the_first_end_counts_and_not_what_follows_from_it() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def daemon(parts: Supervisor) -> None:
        parts.start("feed", fail_at(second))
        parts.watch(asyncio.create_task(end_at(first), name="writer"))
        first.set()
        with suppress(PartEnded):
            await parts.wait()
        second.set()
        await asyncio.sleep(0.01)

    with pytest.raises(PartEnded, match="`writer`"):
        await supervised(daemon)


async def test_at_shutdown_a_part_that_returns_when_told_is_well() -> None:
    async def told() -> None:
        with suppress(asyncio.CancelledError):
            await work()

    async with Supervisor() as parts:
        parts.start("marks", told())
        await asyncio.sleep(0)
        parts.stop()
        await parts.wait()


async def test_at_shutdown_a_part_that_fails_is_told_of() -> None:
    async def broken() -> None:
        try:
            await work()
        finally:
            raise ZeroDivisionError("the last mark cannot be written")

    async def daemon(parts: Supervisor) -> None:
        parts.start("marks", broken())
        await asyncio.sleep(0)
        parts.stop()
        await parts.wait()

    with pytest.raises(PartEnded, match="`marks` has ended: ZeroDivisionError") as ended:
        await supervised(daemon)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)


async def test_at_shutdown_a_part_that_hangs_is_told_of_and_waited_for_no_longer() -> None:
    end = asyncio.Event()

    async def hanging() -> None:
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()

    async def daemon(parts: Supervisor) -> None:
        parts.start("marks", hanging())
        parts.start("other", work())
        await asyncio.sleep(0)
        parts.stop()
        await asyncio.wait_for(parts.wait(), LONG)

    with pytest.raises(PartEnded, match="`marks` does not end"):
        await supervised(daemon, patience=0.1)
    assert [task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}] == ["marks"]
    end.set()


async def test_what_ends_elsewhere_while_the_daemon_drains_is_missed_by_nobody_unless_it_fails() -> None:
    end = asyncio.Event()
    async with Supervisor() as parts:
        parts.watch(asyncio.create_task(end_at(end), name="writer"))
        parts.stop()
        end.set()
        await asyncio.sleep(0.01)
    fault = asyncio.Event()

    async def daemon(parts: Supervisor) -> None:
        parts.watch(asyncio.create_task(fail_at(fault), name="writer"))
        parts.stop()
        fault.set()
        await asyncio.sleep(0.01)

    with pytest.raises(PartEnded, match="`writer`"):
        await supervised(daemon)


async def test_whatever_comes_after_the_end_is_told_of_it_too() -> None:
    async with Supervisor() as parts:
        parts.stop()
        grants = [True]
        parts.when_over(grants.clear)
        assert not grants


async def test_a_step_of_the_end_that_fails_keeps_no_other_from_being_done_and_counts() -> None:
    def fail() -> None:
        raise ZeroDivisionError("no thread can be started")

    grants, late = [True], [True]

    async def daemon(parts: Supervisor) -> None:
        parts.when_over(fail)
        parts.when_over(grants.clear)
        parts.stop()
        assert not grants
        parts.when_over(fail)
        parts.when_over(late.clear)
        await parts.wait()

    with pytest.raises(PartEnded, match="a step of the end has failed: ZeroDivisionError") as ended:
        await supervised(daemon)
    assert isinstance(ended.value.__cause__, ZeroDivisionError)
    assert not late


async def test_what_ended_first_counts_though_a_step_of_the_end_fails_as_well() -> None:
    fault = asyncio.Event()
    fault.set()

    def fail() -> None:
        raise LookupError("no thread can be started")

    async def daemon(parts: Supervisor) -> None:
        parts.when_over(fail)
        parts.start("feed", fail_at(fault))
        await parts.wait()

    with pytest.raises(PartEnded, match="`feed` has ended: ZeroDivisionError"):
        await supervised(daemon)
