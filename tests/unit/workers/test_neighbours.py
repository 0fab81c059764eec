"""What workers tell each other arrives as it was said."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from broker.model.selector import Selector, Target
from broker.workers.line import LIVES, Line, hear, pair, say
from broker.workers.neighbours import Ears, Neighbours

SELECTORS = [
    Selector("acme", Target.ALL),
    Selector("*", Target.AGENT, "spiffe://example.org/agent"),
    Selector("\u00fc" * 255, Target.TOOL, "https://repo.example#" + "t" * 2_600),
]


def ears(hear: Callable[[Selector | None], None], over: asyncio.Event, *withheld: Selector) -> Ears:
    """Hear news as None, and what is to be withheld."""
    return Ears(lambda: hear(None), hear, lambda: withheld, over.set)


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda selector: selector.target)
async def test_news_and_what_is_to_be_withheld_arrive(selector: Selector) -> None:
    ours, theirs = pair()
    sender, receiver = Neighbours(Line(ours)), Neighbours(Line(theirs))
    heard: asyncio.Queue[Selector | None] = asyncio.Queue()
    over = asyncio.Event()
    receiving = asyncio.create_task(receiver.run(ears(heard.put_nowait, over)))
    sender.wake()
    assert await heard.get() is None
    sender.withhold(selector)
    assert await heard.get() == selector
    ours.close()
    await over.wait()
    receiving.cancel()
    theirs.close()


async def test_whoever_is_new_is_told_what_is_withheld_since_before() -> None:
    """What a parent does is done here by hand."""
    loop, heard = asyncio.get_running_loop(), asyncio.Queue[Selector | None]()
    (parent_of_old, old_end), (parent_of_new, new_end) = pair(), pair()

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        for word in hear(source) or ():
            if word != LIVES:
                say(target, word)

    loop.add_reader(parent_of_old, pass_on, parent_of_old, parent_of_new)
    loop.add_reader(parent_of_new, pass_on, parent_of_new, parent_of_old)
    running = [
        asyncio.create_task(Neighbours(Line(end)).run(ears(heard.put_nowait, asyncio.Event(), *withheld)))
        for end, withheld in ((old_end, SELECTORS), (new_end, []))
    ]
    assert [await heard.get() for _ in SELECTORS] == SELECTORS
    for task in running:
        task.cancel()
    for end in (parent_of_old, parent_of_new):
        loop.remove_reader(end)
    await asyncio.wait(running)
    for end in (parent_of_old, parent_of_new, old_end, new_end):
        end.close()
