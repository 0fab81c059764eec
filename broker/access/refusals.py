"""Refusals: logged and recorded before the caller hears of them (law 2), and counted where they become a flood.

What a refused request was about is in its sender's words, and they may be anything: a token that was put into the wrong
field, say. So a field is told as it is only if it has the field's form, and else by its length and hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from broker.audit.facts import principal_facts
from broker.intent.scopes import scope_of
from broker.lease.desk import Desk
from broker.lease.rations import OF_A_CALLER, OF_NOBODY
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Reason, Refusal
from broker.model.names import is_id, is_resource, is_tool
from broker.model.principal import Principal

_MOST_TOOLS = 16
_TOOL = scope_of([""])
_NOT_RECORDED = frozenset({Reason.LEDGER_UNAVAILABLE, Reason.UNAVAILABLE})
_MAY_HOLD_MORE = re.compile(r"\?|eyJ")  # the query of a URI, and a token (RFC 7519), hold anything
_QUOTED = re.compile(r"`.*`", re.DOTALL)  # from the first mark to the last: what is quoted may hold some itself


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """What a refused request was about, as far as it said so, word for word.

    `recorded`: it would change something. `tools` are the parts of an OAuth scope, such as `tool:read_file`.
    """

    method: str
    recorded: bool = True
    task_id: str = ""
    lease_id: str = ""
    resource: str = ""
    tools: tuple[str, ...] = ()


async def refuse(desk: Desk, principal: Principal | None, summary: RequestSummary, refusal: Refusal) -> Refusal:
    """Log a refusal, and record it where that is due; return the one that the caller is to hear.

    That is LEDGER_UNAVAILABLE, if it cannot be recorded.
    """
    recorded = summary.recorded and refusal.reason not in _NOT_RECORDED
    if not _is_told(desk, principal, refusal):
        if recorded:
            desk.ledger.count_refusal(_entry(desk, principal, {}, refusal))
        return refusal
    # nobody's words are worth nothing
    facts = _facts(summary if principal is not None else RequestSummary(method=summary.method))
    structlog.get_logger("refusals").info(
        "request.refused",
        principal=None if principal is None else principal.id,
        reason=refusal.reason.value,
        message=_QUOTED.sub("`*`", refusal.message),
        **facts,
    )
    if not recorded:
        return refusal
    try:
        await desk.ledger.write_refusal(_entry(desk, principal, facts, refusal))
    except Refusal as unrecorded:
        return unrecorded
    return refusal


def _is_told(desk: Desk, principal: Principal | None, refusal: Refusal) -> bool:
    whose, ration = ("", OF_NOBODY) if principal is None else (principal.id, OF_A_CALLER)
    return desk.rations.take(f"{refusal.reason} {whose}", ration, desk.clock())


def _entry(desk: Desk, principal: Principal | None, facts: dict[str, Json], refusal: Refusal) -> Entry:
    known = refusal.hints.metadata()
    if _MAY_HOLD_MORE.search(known.get("missing", "")):
        del known["missing"]  # it is among the facts, as far as it is told
    return Entry(
        kind=Kind.REQUEST_REFUSED,
        at=desk.clock(),
        tenant="" if principal is None else principal.tenant,
        observed={} if principal is None else principal_facts(principal),
        asserted=facts,
        decided={"reason": refusal.reason.value, **known},
    )


def _facts(summary: RequestSummary) -> dict[str, Json]:
    named: dict[str, Json] = {
        "method": summary.method,
        "task": _told(summary.task_id, is_id),
        "lease": _told(summary.lease_id, is_id),
        "resource": _told(summary.resource, is_resource),
        "tools": [_told_tool(item) for item in summary.tools[:_MOST_TOOLS]],
        "more_tools": max(0, len(summary.tools) - _MOST_TOOLS),
    }
    return {name: value for name, value in named.items() if value}


def _told_tool(item: str) -> Json:
    tool = item.removeprefix(_TOOL)
    return _told(tool, is_tool) if tool != item else _hashed(item)


def _told(text: str, has_form: Callable[[str], bool]) -> Json:
    """Return a text that has its field's form as it is, and any other by its length and hash."""
    return text if not text or (has_form(text) and not _MAY_HOLD_MORE.search(text)) else _hashed(text)


def _hashed(text: str) -> Json:
    data = text.encode()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
