"""The demo's orchestrator: declares tasks, and ends them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from broker.cli.demo.lines import converse
from broker.cli.notation import gather
from broker.model.task import TaskState
from broker.sdk import Client, Declaration, Environment

_LIFETIME = timedelta(minutes=10)


async def main() -> None:
    """Do what the demo asks; the broker and the SVID come from the environment."""
    async with Client() as client:

        async def begin(agents: list[str], tools: list[str], constraints: list[str]) -> dict[str, str]:
            task = await client.create_task(
                Declaration(
                    owner="team-web",
                    purpose="triage",
                    environment=Environment.DEV,
                    agents=agents,
                    tools=gather(tools, constraints),
                    deadline=_LIFETIME,
                    risk_threshold=60,
                )
            )
            return {"task_id": task.id, "state": task.state.value}

        async def end(task_id: str) -> int:
            return await client.end_task(task_id, TaskState.COMPLETED, barrier=True)

        await converse({"begin": begin, "end": end})


if __name__ == "__main__":
    asyncio.run(main())
