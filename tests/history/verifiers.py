"""Verifiers in a process of their own, which try every token that is given, and record what they accept.

python -m tests.history.verifiers SETTING NAME ADDRESS COUNT [--deaf]

What somebody is about to revoke is tried all the time, other tokens twice a second. Recorded is each change, and while
a token is accepted a try from time to time: of those between, the last is as good as all.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from broker.model.errors import Reason, Refusal
from broker.model.selector import RevocationRule
from broker.sandbox.broker import RESOURCE
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.revocations import Revocations
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.faults.history import refusal_of
from tests.history.bus import Bus
from tests.history.events import Use
from tests.history.recording import Given, Recorder
from tests.history.setting import Setting

_ROUND_SECONDS = 0.02
_ALL_EVERY = 25  # rounds
_RECORDED_SECONDS = 0.25


@dataclass
class Tries:
    """The tries of one verifier: of each token the last, and when one was last recorded."""

    by: str
    verifier: Verifier
    record: Recorder
    last: dict[str, Use] = field(default_factory=dict)
    recorded: dict[str, float] = field(default_factory=dict)

    def round(self, bus: Bus, *, everything: bool) -> None:
        """Try the tokens whose end is near and not seen yet, or all."""
        for given in list(bus.given.values()):
            before = self.last.get(given.lease)
            if everything or (bus.is_marked(given) and (before is None or before.refused != Reason.TOKEN_REVOKED)):
                self.attempt(given)

    def attempt(self, given: Given) -> None:
        """Try a token; record it, and the last try before, if the outcome has changed between the two."""
        began = time.monotonic()
        refused = refusal_of(self.verifier, given.token)
        use = Use(by=self.by, began=began, ended=time.monotonic(), lease=given.lease, refused=refused or "")
        before = self.last.get(given.lease)
        self.last[given.lease] = use
        if before is None or before.refused != use.refused:
            if before is not None and self.recorded[given.lease] < before.began:
                self.record.note(before)
            self._note(use)
        elif not use.refused and use.began > self.recorded[given.lease] + _RECORDED_SECONDS:
            self._note(use)

    def _note(self, use: Use) -> None:
        self.recorded[use.lease] = use.began
        self.record.note(use)


class _Deaf(Revocations):
    """Of a verifier that lies: it confirms every rule, and heeds none."""

    def apply(self, rules: Iterable[RevocationRule]) -> None:
        """Heed none."""

    def replace(self, rules: Iterable[RevocationRule]) -> None:
        """Heed none."""


async def main(setting: Setting, name: str, address: str, count: int, *, deaf: bool) -> None:
    """Watch a broker and try tokens, until killed."""
    record, bus = Recorder(Path(setting.events), name), Bus.of(Path(setting.events))
    tries = [Tries(f"{name} {number}", Verifier(RESOURCE), record) for number in range(count)]
    if deaf:
        for one in tries:
            one.verifier.revocations = _Deaf()
    async with asyncio.TaskGroup() as group:
        for one in tries:
            group.create_task(_watch(one.verifier, Endpoint.of(address, Path(setting.svids) / "verifier")))
        number = 0
        while True:
            bus.hear()
            for one in tries:
                one.round(bus, everything=number % _ALL_EVERY == 0)
            await asyncio.sleep(_ROUND_SECONDS)
            number += 1


async def _watch(verifier: Verifier, endpoint: Endpoint) -> None:
    """Keep a verifier fresh, as a tool server does that starts again until the broker is there."""
    while True:
        try:
            async with watching(verifier, endpoint):
                await asyncio.Event().wait()
        except Refusal:
            await asyncio.sleep(_RECORDED_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", type=Path)
    parser.add_argument("name")
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    parser.add_argument("--deaf", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(Setting.read(options.setting), options.name, options.address, options.count, deaf=options.deaf))
