"""Ties a task to a run of the OpenAI Agents SDK, and lets each agent of the run hold only what is meant for it.

``async with TaskRun(…) as run: await Runner.run(agent, text, hooks=run)``, with MCP servers that have
``params={"url": URL, "auth": run.auth(URL)}``. A hand-off is where authority changes hands: the agent that hands over
loses its credentials, and the next one gets its own. All agents of a run are one workload, so this bounds what a model
is led to do, and not what the process could.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from agents import RunHooks

from broker.model.errors import Hints, Reason, Refusal
from broker.model.grant import ResourceGrants
from broker.model.task import Declaration, Task
from broker.sdk.attach.httpx2 import CredentialAuth
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential


class TaskRun(RunHooks[Any]):
    """A task for as long as a block runs, whatever ends it, and the hooks of the run in it.

    `grants` is what each agent gets, by its name; `first` is the agent that the run begins with.
    """

    def __init__(
        self,
        orchestrator: Client,
        agent: Client,
        declaration: Declaration,
        grants: Mapping[str, Sequence[ResourceGrants]],
        first: str,
    ) -> None:
        """Prepare a run. Both clients stay open while it lasts."""
        self._orchestrator = orchestrator
        self._agent = agent
        self._declaration = declaration
        self._grants = grants
        self._holder = first
        self._run = AsyncExitStack()
        self._blocks = AsyncExitStack()
        self._held: dict[str, Credential] = {}
        self._task: Task | None = None

    async def __aenter__(self) -> Self:
        """Begin the task, and get what the first agent needs.

        Raises:
            Refusal: as `Client.task` and `Client.credential`.
        """
        async with AsyncExitStack() as stack:
            self._task = await stack.enter_async_context(self._orchestrator.task(self._declaration))
            stack.push_async_exit(self._let_go)
            await self._hold(self._holder)
            self._run = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Release what is held and end the task: completed, failed or cancelled, as the block was."""
        return await self._run.__aexit__(kind, error, traceback)

    def auth(self, resource: str, *, at: str = "") -> CredentialAuth:
        """Return an `Auth` for requests to a resource, with the credential of whoever is at work; else as its class."""
        return CredentialAuth(lambda: self._credential(resource), at=at)

    async def on_agent_start(self, context: Any, agent: Any) -> None:  # noqa: ANN401, ARG002 (the SDK's signature)
        """Get what an agent needs that begins to work."""
        await self._change_holder(agent.name)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:  # noqa: ANN401, ARG002 (as above)
        """Take what one agent has, and get what the next one needs."""
        await self._change_holder(to_agent.name)

    async def _change_holder(self, name: str) -> None:
        if name != self._holder:
            await self._let_go()
            self._holder = name
            await self._hold(name)

    async def _hold(self, name: str) -> None:
        task = self._task
        if task is None:
            raise RuntimeError("use the run as `async with TaskRun(…) as run`")
        for wanted in self._grants.get(name, ()):
            block = self._agent.credential(task.id, wanted.resource, wanted.grants)
            self._held[wanted.resource] = await self._blocks.enter_async_context(block)

    async def _let_go(self, *_error: object) -> None:
        self._held.clear()
        await self._blocks.aclose()

    def _credential(self, resource: str) -> Credential:
        credential = self._held.get(resource)
        if credential is None:
            raise Refusal(
                Reason.TOOL_NOT_GRANTED,
                f"the agent `{self._holder}` has no credential for `{resource}`",
                Hints(missing=resource, next="name what it needs in the run's `grants`"),
            )
        return credential
