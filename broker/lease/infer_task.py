"""Infer the task that a caller means without saying so: the one that its proof names, or the only live one it is in."""

from __future__ import annotations

from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.store import tasks


async def infer_task(desk: Desk, agent: Principal) -> str:
    """Return the id of the task that an agent must mean.

    Raises:
        Refusal: TASK_NOT_FOUND, if there is none; TASK_AMBIGUOUS, if there are several.
    """
    if agent.task_id:
        return agent.task_id
    now = desk.clock()
    task_ids = await desk.database.read(lambda connection: tasks.live_of(connection, agent.tenant, agent.id, now, 2))
    if not task_ids:
        raise Refusal(
            Reason.TASK_NOT_FOUND,
            f"no live task names `{agent.id}`",
            Hints(missing="an active task", next="ask the orchestrator for one"),
        )
    if len(task_ids) > 1:
        raise Refusal(
            Reason.TASK_AMBIGUOUS,
            f"several live tasks name `{agent.id}`",
            Hints(missing="task", next="say which one is meant, by the parameter `task`"),
        )
    return task_ids[0]
