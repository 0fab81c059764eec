"""Some connected verifiers in one process, which say when each of them begins to refuse a token.

python -m broker.cli.bench.watchers COUNT RESOURCE

A plan names what to `do`. "watch": say first that all verifiers accept a `token`, by its `tool` and its `holder`, then
at which instants of the monotonic clock they refused it as revoked. "check": say how many accept it. "empty": send one
empty RPC for each verifier over its own connection, all at a time from `start_at` on, and say when the last was `done`.
"wait": say when each of them was made fresh after an instant, `since`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from google.protobuf.empty_pb2 import Empty

from broker.cli.bench import empty
from broker.cli.bench.plans import Plans, carry_out, say
from broker.model.errors import Reason, Refusal
from broker.model.selector import RevocationRule
from broker.sdk.connect.connection import Connection
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.feed import Subscription
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.revocations import Revocations
from broker.sdk.verify.verifier import Verifier

_LONGEST_SECONDS = 60.0


class _Rules(Revocations):
    """Revocations that say when they have changed last."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()
        self.changed_at = float("-inf")

    def apply(self, rules: Iterable[RevocationRule]) -> None:
        super().apply(rules)
        self._note()

    def replace(self, rules: Iterable[RevocationRule]) -> None:
        super().replace(rules)
        self._note()

    def _note(self) -> None:
        self.changed_at = time.monotonic()
        self.changed.set()


class _Watcher(Verifier):
    """A verifier that says when it was made fresh, and the connection over which it was."""

    def __init__(self, resource: str, connection: Connection) -> None:
        super().__init__(resource)
        self.revocations: _Rules = _Rules()
        self.connection = connection
        self.refreshed = asyncio.Event()
        self.refreshed_at = float("-inf")

    def fresh_until(self, monotonic: float) -> None:
        super().fresh_until(monotonic)
        self.refreshed_at = time.monotonic()
        self.refreshed.set()

    def try_token(self, plan: dict[str, Any]) -> Reason | None:
        """Check a token; return why it is refused, None if it is accepted."""
        try:
            self.check(plan["token"], plan["tool"], {}, Presentation(spiffe_id=plan["holder"]))
        except Refusal as refusal:
            return refusal.reason
        return None

    async def refuse(self, plan: dict[str, Any]) -> float:
        """Wait until a token is refused as revoked; return since when it is."""
        while (reason := self.try_token(plan)) is not Reason.TOKEN_REVOKED:
            if reason is not None:
                raise RuntimeError(reason)  # which says nothing about revocation
            self.revocations.changed.clear()
            await self.revocations.changed.wait()
        return self.revocations.changed_at

    async def refresh(self, since: float) -> None:
        """Wait until it was made fresh after an instant."""
        while self.refreshed_at <= since:
            self.refreshed.clear()
            await self.refreshed.wait()


async def main(count: int, resource: str, plans: Plans) -> None:
    """Watch until cancelled; the broker and the SVID come from the environment."""
    async with AsyncExitStack() as stack:
        blocks = [_watching(resource, Endpoint.of()) for _ in range(count)]
        watchers = await asyncio.gather(*(stack.enter_async_context(block) for block in blocks))
        say({"ready": True})
        while True:
            plan = await plans.get()
            async with asyncio.timeout(_LONGEST_SECONDS):
                say(await _outcome(watchers, plan))


@asynccontextmanager
async def _watching(resource: str, endpoint: Endpoint) -> AsyncIterator[_Watcher]:
    """Keep a verifier fresh, as `watching` does, on a connection that others may use."""
    connection = await Connection.open(endpoint)
    watcher = _Watcher(resource, connection)
    subscription = Subscription(watcher, connection)
    task = asyncio.create_task(subscription.run())
    try:
        await subscription.wait_until_started()
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait([task])
        await subscription.close()


async def _outcome(watchers: Sequence[_Watcher], plan: dict[str, Any]) -> dict[str, Any]:
    match plan["do"]:
        case "watch":
            refusals = [reason for watcher in watchers if (reason := watcher.try_token(plan))]
            say({"accepted": len(watchers) - len(refusals)})
            return {"refused_at": await asyncio.gather(*(watcher.refuse(plan) for watcher in watchers))}
        case "check":
            return {"accepted": sum(watcher.try_token(plan) is None for watcher in watchers)}
        case "empty":
            calls = [empty.stub(watcher.connection.channel()) for watcher in watchers]
            await asyncio.sleep(max(0.0, plan["start_at"] - time.monotonic()))
            await asyncio.gather(*(call(Empty()) for call in calls))
            return {"done": time.monotonic()}
        case _:
            await asyncio.gather(*(watcher.refresh(plan["since"]) for watcher in watchers))
            return {"refreshed": len(watchers)}


if __name__ == "__main__":
    asyncio.run(carry_out(partial(main, int(sys.argv[1]), sys.argv[2])))
