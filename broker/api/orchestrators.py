"""OrchestratorService: tasks."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import closings, pages, requests
from broker.api.declarations import declaration
from broker.lease import slips, tasks
from broker.lease.desk import Desk
from broker.model.errors import invalid
from broker.model.principal import Principal
from broker.model.task import TaskState
from broker.revocation.feed import Feed
from broker.v1 import orchestrator_service_pb2 as pb
from broker.v1 import task_pb2
from broker.wire.tasks import task_state_from_wire, task_to_wire


@dataclass(frozen=True, slots=True)
class OrchestratorService:
    """The RPCs of orchestrator_service.proto."""

    desk: Desk
    feed: Feed

    async def create_task(self, orchestrator: Principal, request: pb.CreateTaskRequest) -> task_pb2.Task:
        """Declare a task."""
        task = await tasks.begin(self.desk, orchestrator, declaration(request), requests.request_id(request.request_id))
        answer = task_to_wire(task)
        answer.warnings.extend(await slips.in_task(self.desk, task))
        return answer

    async def get_task(self, orchestrator: Principal, request: pb.GetTaskRequest) -> task_pb2.Task:
        """Show a task."""
        return task_to_wire(await tasks.show(self.desk, orchestrator, requests.required(request.task_id, "task_id")))

    async def list_tasks(self, orchestrator: Principal, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        """List tasks."""
        state = task_state_from_wire(request.state, "state") if request.state else None
        page = pages.page(request)
        listed = await tasks.page(self.desk, orchestrator, state, page.position, page.size)
        sent, following = page.of(listed, task_to_wire, lambda task: task.index)
        return pb.ListTasksResponse(tasks=sent, next_page_token=following)

    async def extend_task(self, orchestrator: Principal, request: pb.ExtendTaskRequest) -> task_pb2.Task:
        """Move a task's deadline."""
        task_id = requests.required(request.task_id, "task_id")
        return task_to_wire(await tasks.extend(self.desk, orchestrator, task_id, requests.instant(request, "deadline")))

    async def end_task(self, orchestrator: Principal, request: pb.EndTaskRequest) -> pb.EndTaskResponse:
        """End a task."""
        outcome = task_state_from_wire(request.outcome, "outcome")
        if outcome is TaskState.ACTIVE:
            raise invalid("outcome", "must be COMPLETED, FAILED or CANCELLED")
        within = closings.within(request)
        task, index = await tasks.end(self.desk, orchestrator, requests.required(request.task_id, "task_id"), outcome)
        response = pb.EndTaskResponse(task=task_to_wire(task), index=index)
        if request.barrier:
            closing = await self.feed.barrier(index, task.tenant, within)
            response.closing.CopyFrom(closings.closing_to_wire(closing, orchestrator, self.desk.clock()))
        return response
