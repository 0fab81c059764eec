"""What must live as long as the daemon."""

from __future__ import annotations

import asyncio

import pytest

from broker.jobs.crew import Crew, PartEnded


async def fail_at(event: asyncio.Event) -> None:
    await event.wait()
    raise ZeroDivisionError("the part is broken")


async def end_at(event: asyncio.Event) -> None:
    await event.wait()


async def test_told_to_stop_it_waits_no_longer_and_ends_what_it_has_started() -> None:
    crew, stop, never = Crew(), asyncio.Event(), asyncio.Event()
    crew.start("one", end_at(never))
    elsewhere = asyncio.create_task(end_at(never))
    crew.watch(elsewhere)
    stop.set()
    await crew.wait(stop)
    await crew.dismiss()
    assert asyncio.all_tasks() == {asyncio.current_task(), elsewhere}
    never.set()
    await elsewhere


async def test_a_part_that_fails_ends_the_wait_by_name_and_cause() -> None:
    crew, fault = Crew(), asyncio.Event()
    crew.start("feed", fail_at(fault))
    crew.start("other", end_at(asyncio.Event()))
    waiting = asyncio.create_task(crew.wait(asyncio.Event()))
    await asyncio.sleep(0)
    assert not waiting.done()
    fault.set()
    with pytest.raises(PartEnded, match=r"`feed` has ended.*the part is broken") as ended:
        await waiting
    assert isinstance(ended.value.__cause__, ZeroDivisionError)
    await crew.dismiss()


async def test_a_part_that_ends_without_a_word_is_missed_as_well() -> None:
    crew, end = Crew(), asyncio.Event()
    crew.watch(asyncio.create_task(end_at(end), name="writer"))
    end.set()
    with pytest.raises(PartEnded, match="`writer` has ended"):
        await crew.wait(asyncio.Event())


async def test_what_had_ended_before_anybody_waited_is_found() -> None:
    crew, fault = Crew(), asyncio.Event()
    fault.set()
    crew.start("feed", fail_at(fault))
    await asyncio.sleep(0.01)
    with pytest.raises(PartEnded):
        await crew.wait(asyncio.Event())
