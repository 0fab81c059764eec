"""What workers tell each other, through their parent."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass

from broker.model.selector import Selector, Target
from broker.workers.line import Line

_NEWS = b"news"
_GREETING = b"I am new here"


@dataclass(frozen=True, slots=True)
class Ears:
    """What is done with what the others say. A worker that is new to them is told what is `withheld`.

    `orphaned` is called when there is no parent any more.
    """

    wake: Callable[[], None]
    withhold: Callable[[Selector], None]
    withheld: Callable[[], Collection[Selector]]
    orphaned: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The other workers, at the end of a line."""

    line: Line

    def wake(self) -> None:
        """Tell them that there is something new to be read."""
        self.line.tell(_NEWS)

    def withhold(self, selector: Selector) -> None:
        """Tell them what was to be revoked and cannot be recorded, so that they keep nobody fresh whom it concerns."""
        self.line.tell(json.dumps([selector.tenant, selector.target, selector.value], ensure_ascii=False).encode())

    async def run(self, ears: Ears) -> None:
        """Listen to them, until cancelled."""

        def hear(word: bytes) -> None:
            if word == _NEWS:
                ears.wake()
            elif word == _GREETING:
                for selector in ears.withheld():
                    self.withhold(selector)
            else:
                tenant, target, value = json.loads(word)
                ears.withhold(Selector(tenant, Target(target), value))

        self.line.tell(_GREETING)
        await self.line.run(hear, ears.orphaned)
