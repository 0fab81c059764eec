"""Narrowing: what is granted is what was declared, with constraints appended. So authority only shrinks (law 4)."""

from __future__ import annotations

from broker.intent.scopes import scope_of
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.grant import Grant
from broker.model.nearest import meant
from broker.model.task import Task

_MOST_CONSTRAINTS = 64


def narrow(declared: Grant, requested: Grant) -> Grant:
    """Return the declared grant with the requested constraints appended, as far as they are not in it already.

    A call must keep every constraint of a grant, so the result lets through no call that the declared grant does not.
    """
    known = {repr(constraint) for constraint in declared.constraints}  # to Python True is 1; here it is not
    added = tuple(constraint for constraint in requested.constraints if repr(constraint) not in known)
    return Grant(declared.tool, declared.constraints + added) if added else declared


def everything(task: Task, resource: str) -> tuple[Grant, ...]:
    """Return all that a task declares at a resource.

    Raises:
        Refusal: TOOL_NOT_DECLARED, if that is nothing.
    """
    declared = task.declared(resource)
    if declared is None:
        raise Refusal(
            Reason.TOOL_NOT_DECLARED,
            f"task `{task.id}` declares no tool at `{resource}`",
            Hints(missing=resource, next="ask the orchestrator for a task that declares one"),
        )
    return declared.grants


def within(task: Task, resource: str, requested: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Narrow what a task declares at a resource to what is asked for.

    Raises:
        Refusal: TOOL_NOT_DECLARED; INVALID_ARGUMENT, if a grant would hold too many constraints.
    """
    declared = task.declared(resource)
    granted = []
    for number, request in enumerate(requested):
        parent = None if declared is None else declared.grant(request.tool)
        if parent is None:
            there = () if declared is None else [grant.tool for grant in declared.grants]
            raise Refusal(
                Reason.TOOL_NOT_DECLARED,
                f"task `{task.id}` does not declare tool `{request.tool}` at `{resource}`{meant(request.tool, there)}",
                Hints(missing=scope_of([request.tool]), next="ask the orchestrator for a task that declares it"),
            )
        grant = narrow(parent, request)
        if len(grant.constraints) > _MOST_CONSTRAINTS:
            raise invalid(f"grants[{number}].constraints", f"come to more than {_MOST_CONSTRAINTS} with the task's own")
        granted.append(grant)
    return tuple(granted)
