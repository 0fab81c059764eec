"""Tasks."""

from __future__ import annotations

from datetime import datetime

from broker.model.errors import invalid
from broker.model.task import Declaration, Environment, Task, TaskState
from broker.v1 import task_pb2 as pb
from broker.v1.orchestrator_service_pb2 import CreateTaskRequest
from broker.wire.grants import resources_from_wire, resources_to_wire
from broker.wire.times import instant_from_wire, instant_to_wire

_TO_WIRE = {state: pb.TaskState.Value(f"TASK_STATE_{state.name}") for state in TaskState}
_FROM_WIRE = {number: state for state, number in _TO_WIRE.items()}


def task_state_to_wire(state: TaskState) -> pb.TaskState.ValueType:
    """Return a state as its number."""
    return _TO_WIRE[state]


def task_state_from_wire(number: int, field: str) -> TaskState:
    """Parse a state.

    Raises:
        Refusal: INVALID_ARGUMENT: unspecified or unknown.
    """
    state: TaskState | None = _FROM_WIRE.get(number)  # type: ignore[call-overload]
    if state is None:
        raise invalid(field, f"must be one of {', '.join(TaskState.__members__)}")
    return state


def environment_from_wire(name: str, field: str) -> Environment:
    """Parse an environment.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    try:
        return Environment(name)
    except ValueError:
        raise invalid(field, f"must be one of {', '.join(Environment)}") from None


def declaration_to_wire(declared: Declaration, at: datetime, request_id: str) -> CreateTaskRequest:
    """Return a declaration that is made at an instant as a request."""
    return CreateTaskRequest(
        owner=declared.owner,
        purpose=declared.purpose,
        environment=declared.environment.value,
        agents=declared.agents,
        tools=resources_to_wire(declared.tools),
        deadline=instant_to_wire(declared.due(at)),
        risk_threshold=declared.risk_threshold,
        request_id=request_id,
    )


def task_to_wire(task: Task) -> pb.Task:
    """Return a task as a message."""
    return pb.Task(
        task_id=task.id,
        tenant=task.tenant,
        owner=task.owner,
        purpose=task.purpose,
        environment=task.environment.value,
        agents=task.agents,
        tools=resources_to_wire(task.tools),
        deadline=instant_to_wire(task.deadline),
        risk_threshold=task.risk_threshold,
        state=_TO_WIRE[task.state],
        create_time=instant_to_wire(task.created_at),
        end_time=None if task.ended_at is None else instant_to_wire(task.ended_at),
        created_by=task.created_by,
        index=task.index,
        leases_issued=task.leases_issued,
    )


def task_from_wire(message: pb.Task, field: str = "task") -> Task:
    """Parse a task, as a broker sends it.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    return Task(
        id=message.task_id,
        tenant=message.tenant,
        owner=message.owner,
        purpose=message.purpose,
        environment=environment_from_wire(message.environment, f"{field}.environment"),
        agents=tuple(message.agents),
        tools=resources_from_wire(message.tools, f"{field}.tools"),
        deadline=instant_from_wire(message.deadline, f"{field}.deadline"),
        risk_threshold=message.risk_threshold,
        state=task_state_from_wire(message.state, f"{field}.state"),
        created_at=instant_from_wire(message.create_time, f"{field}.create_time"),
        created_by=message.created_by,
        index=message.index,
        ended_at=instant_from_wire(message.end_time, f"{field}.end_time") if message.HasField("end_time") else None,
        leases_issued=message.leases_issued,
    )
