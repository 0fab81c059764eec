"""Callers of every kind in a process of their own: SDK clients of every broker, who record what they do.

python -m tests.history.callers SETTING NAME
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from broker.sdk.client.client import Client
from broker.sdk.connect.connection import connect
from broker.system import uuid7
from tests.history.agents import Agents
from tests.history.asking import BARRIER_SECONDS, CALL_SECONDS, REQUEST, Asking
from tests.history.bus import Bus
from tests.history.lot import Lot
from tests.history.operators import Operators, Orchestrators
from tests.history.recording import Recorder
from tests.history.setting import Setting
from tests.history.spending import Spenders

_AGENTS, _ENDERS, _OPERATORS = 3, 2, 4
_LISTEN_SECONDS = 0.02


async def main(setting: Setting, name: str) -> None:
    """Call until killed."""
    svids, events = Path(setting.svids), Path(setting.events)
    asking = Asking(setting, Recorder(events, name), Bus.of(events), Lot(setting.seed, name))
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:

        async def clients(
            svid: str, ids: Callable[[], str], seconds: float, addresses: Sequence[str] = setting.brokers
        ) -> list[Client]:
            made = [Client(address, svids / svid, ids=ids, timeout=seconds) for address in addresses]
            return [await stack.enter_async_context(client) for client in made]

        # Those of an orchestrator each begin with another broker, and go on to the next by themselves.
        turns = [",".join(setting.brokers[first:] + setting.brokers[:first]) for first in range(len(setting.brokers))]
        roots = grpc.ssl_channel_credentials((svids / "ca.pem").read_bytes())
        agents = Agents(asking, await clients("researcher", REQUEST.get, CALL_SECONDS))
        orchestrators = Orchestrators(
            asking,
            await clients("orchestrator", REQUEST.get, CALL_SECONDS, turns),
            await clients("orchestrator", uuid7, BARRIER_SECONDS, turns),
        )
        operators = Operators(asking, [connect(address, svids / "operator") for address in setting.brokers])
        spenders = Spenders(
            asking,
            [grpc.aio.secure_channel(address, roots) for address in setting.jwt_brokers],
            [connect(address, svids / "researcher") for address in setting.brokers],
        )
        running = [
            _listen(asking.bus),
            orchestrators.begin(),
            spenders.spend_tokens(),
            spenders.spend_proofs(),
            *(orchestrators.end() for _ in range(_ENDERS)),
            *(agents.run() for _ in range(_AGENTS)),
            *(operators.run() for _ in range(_OPERATORS)),
        ]
        for work in running:
            group.create_task(work)


async def _listen(bus: Bus) -> None:
    while True:
        bus.hear()
        await asyncio.sleep(_LISTEN_SECONDS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", type=Path)
    parser.add_argument("name")
    options = parser.parse_args()
    asyncio.run(main(Setting.read(options.setting), options.name))
