"""An actor's side of the demo: requests on stdin, answers on stdout, a line of JSON each, until stdin ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from broker.model.errors import Refusal

Handler = Callable[..., Awaitable[object]]


async def converse(handlers: Mapping[str, Handler], **about: object) -> None:
    """Say that this actor is ready, then do what is asked, until nobody can ask any more."""
    _say({"ready": True, **about})
    while line := await asyncio.to_thread(sys.stdin.readline):
        request: dict[str, Any] = json.loads(line)
        handler = handlers[request.pop("do")]
        try:
            _say({"value": await handler(**request)})
        except Refusal as refusal:
            _say({"refused": refusal.reason.value, "message": refusal.message})


def _say(document: Mapping[str, object]) -> None:
    print(json.dumps(document), flush=True)
