"""Some connected verifiers in one process, which tell when each of them begins to refuse a token.

python -m broker.cli.bench.watchers COUNT RESOURCE

Each line on stdin holds a `token` that works, its `tool` and its `holder`. The first line on stdout after it says that
all verifiers accept the token; the second gives, by the monotonic clock, the instants at which they refused it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from broker.model.errors import Reason, Refusal
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching

_POLL_SECONDS = 0.001


async def main(count: int, resource: str) -> None:
    """Watch until stdin ends; the broker and the SVID come from the environment."""
    async with AsyncExitStack() as stack:
        endpoint = Endpoint.of()
        blocks = [watching(Verifier(resource), endpoint) for _ in range(count)]
        verifiers = await asyncio.gather(*(stack.enter_async_context(block) for block in blocks))
        _say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            await _await_refusals(verifiers, json.loads(line))


async def _await_refusals(verifiers: Sequence[Verifier], plan: dict[str, Any]) -> None:
    seen = {verifier: _version(verifier, plan) for verifier in verifiers}
    _say({"accepted": len(seen)})
    refused_at: list[float] = []
    while seen:
        await asyncio.sleep(_POLL_SECONDS)
        for verifier, version in list(seen.items()):
            if verifier.revocations.version != version and _refuses(verifier, plan):
                refused_at.append(time.monotonic())
                del seen[verifier]
    _say({"refused_at": refused_at})


def _version(verifier: Verifier, plan: dict[str, Any]) -> int:
    """Make sure that it accepts the token now, and tell by what the next change of its revocations will show."""
    verifier.check(plan["token"], plan["tool"], {}, Presentation(spiffe_id=plan["holder"]))
    return verifier.revocations.version


def _refuses(verifier: Verifier, plan: dict[str, Any]) -> bool:
    try:
        verifier.check(plan["token"], plan["tool"], {}, Presentation(spiffe_id=plan["holder"]))
    except Refusal as refusal:
        if refusal.reason is not Reason.TOKEN_REVOKED:
            raise
        return True
    return False


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
