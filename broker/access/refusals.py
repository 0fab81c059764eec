"""Refusals: logged and recorded before the caller hears of them (law 2), and counted where they become a flood.

What a refused request was about is in its sender's words, and they may be anything: a token that was put into the wrong
field, say. So a field is kept as it is only if it has the field's form, and else by its length and hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import structlog

from broker.access.entrances import Entrance
from broker.access.rations import OF_A_CALLER, OF_NOBODY, Rations
from broker.access.summary import RequestSummary
from broker.audit.facts import principal_facts
from broker.intent.scopes import scope_of
from broker.lease.desk import Desk
from broker.model.entry import Entry, Json, Kind
from broker.model.errors import Reason, Refusal
from broker.model.names import is_id, is_resource, is_tool
from broker.model.principal import Principal
from broker.store.ledger import LedgerMismatch

_MOST_TOOLS = 16
_NOTHING = RequestSummary()
_TOOL = scope_of([""])
_NOT_RECORDED = frozenset({Reason.LEDGER_UNAVAILABLE, Reason.UNAVAILABLE})
_MAY_HOLD_MORE = re.compile(r"\?|eyJ")  # the query of a URI, and a token (RFC 7519), hold anything
_QUOTED = re.compile(r"`.*`", re.DOTALL)  # from the first mark to the last: what is quoted may hold some itself


class Refusals:
    """What becomes of refusals, at every door."""

    def __init__(self, desk: Desk) -> None:
        """Record them in the ledger of a desk."""
        self._desk = desk
        self._rations = Rations()

    async def settle(
        self, entrance: Entrance, principal: Principal | None, summary: RequestSummary, error: Exception
    ) -> Refusal:
        """Return the refusal that the caller is to hear, of a call that has ended with an error.

        A refusal is logged first, and recorded where that is due: if it cannot be, the answer is LEDGER_UNAVAILABLE.
        A ledger that is not what we have signed is unavailable, and the feed logs why. Any other error is ours:
        it is logged, and is INTERNAL to the caller.
        """
        if isinstance(error, LedgerMismatch):
            error = error.refusal()
        if not isinstance(error, Refusal):
            caller = None if principal is None else principal.id
            log = structlog.get_logger("requests")
            log.error("request.failed", method=entrance.name, principal=caller, exc_info=error)
            return Refusal(Reason.INTERNAL, "the broker has failed; its log says how")
        recorded = entrance.recorded and error.reason not in _NOT_RECORDED
        if not self._is_single(principal, error):
            if recorded:
                self._desk.ledger.count_refusal(self._entry(principal, {}, error))
            return error
        # Nobody's words are worth nothing.
        facts = _facts(entrance.name, summary if principal is not None else _NOTHING)
        _log(principal, facts, error)
        if not recorded:
            return error
        try:
            await self._desk.ledger.write_refusal(self._entry(principal, facts, error))
        except Refusal as unrecorded:
            return unrecorded
        return error

    def _is_single(self, principal: Principal | None, refusal: Refusal) -> bool:
        """Report whether a refusal is logged and recorded by itself, and not only counted."""
        whose, ration = ("", OF_NOBODY) if principal is None else (principal.id, OF_A_CALLER)
        return self._rations.take(f"{refusal.reason} {whose}", ration, self._desk.clock())

    def _entry(self, principal: Principal | None, facts: dict[str, Json], refusal: Refusal) -> Entry:
        known = refusal.hints.metadata()
        if _MAY_HOLD_MORE.search(known.get("missing", "")):
            del known["missing"]  # it is among the facts, as far as it is kept
        return Entry(
            kind=Kind.REQUEST_REFUSED,
            at=self._desk.clock(),
            tenant="" if principal is None else principal.tenant,
            observed={} if principal is None else principal_facts(principal),
            asserted=facts,
            decided={"reason": refusal.reason.value, **known},
        )


def _log(principal: Principal | None, facts: dict[str, Json], refusal: Refusal) -> None:
    structlog.get_logger("refusals").info(
        "request.refused",
        principal=None if principal is None else principal.id,
        reason=refusal.reason.value,
        message=_QUOTED.sub("`*`", refusal.message),
        **facts,
    )


def _facts(method: str, summary: RequestSummary) -> dict[str, Json]:
    named: dict[str, Json] = {
        "method": method,
        "task": _fact(summary.task_id, is_id),
        "lease": _fact(summary.lease_id, is_id),
        "resource": _fact(summary.resource, is_resource),
        "tools": [_tool_fact(item) for item in summary.tools[:_MOST_TOOLS]],
        "more_tools": max(0, len(summary.tools) - _MOST_TOOLS),
    }
    return {name: value for name, value in named.items() if value}


def _tool_fact(item: str) -> Json:
    tool = item.removeprefix(_TOOL)
    return _fact(tool, is_tool) if tool != item else _hashed(item)


def _fact(text: str, has_form: Callable[[str], bool]) -> Json:
    """Return a text that has its field's form as it is, and any other by its length and hash."""
    return text if not text or (has_form(text) and not _MAY_HOLD_MORE.search(text)) else _hashed(text)


def _hashed(text: str) -> Json:
    data = text.encode()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
