"""Keeping a credential good for as long as its holder needs it: renewed in time, and issued anew where that is the way.

A lease that has merely expired while the broker could not be reached, whose total lifetime is over, or that is bound to
a certificate that we do not show any more, is followed by a new one, if the task still lives and the broker still
permits it. One that was revoked is not: somebody has meant it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from broker.model.clock import Clock, Ids
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.model.lease import LeaseState
from broker.sdk.client.credential import Credential
from broker.sdk.connect.patience import AGAIN, pauses

_RENEW_AFTER = 2 / 3  # of a token's life
_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 10.0  # between attempts, of which the broker records those that it refuses
_GLANCE_SECONDS = 5.0
_ENDS = (Reason.LEASE_NOT_FOUND, Reason.TASK_NOT_ACTIVE, Reason.TASK_NOT_FOUND)
_LOG = logging.getLogger("credbroker")


class Event(StrEnum):
    """What becomes of a credential that is kept: as these read in a sentence."""

    RENEWED = "was renewed"
    REISSUED = "was issued anew"
    FAILING = "cannot be renewed for now"
    ENDED = "cannot be renewed any more"
    NOT_RELEASED = "could not be released"


Tell = Callable[[Credential, Event, Refusal | OSError | None], None]
"""Is told what becomes of a credential, and why. An OSError of its own, for good news, counts as a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRequest:
    """What a holder needs: the fields of IssueCredentialRequest."""

    task_id: str
    resource: str
    grants: Sequence[Grant]
    lifetime: timedelta | None = None
    explanation: str = ""


class Renewer(Protocol):
    """What is asked of a client."""

    async def renew(self, credential: Credential, *, lifetime: timedelta | None = None) -> None:
        """Renew in place; raises Refusal."""

    def can_present(self, credential: Credential) -> bool:
        """Report whether what it may be bound to is still what we show."""

    async def issue_again(self, credential: Credential, wanted: CredentialRequest, request_id: str) -> None:
        """Put a new lease and token into a credential; raises Refusal."""


def tell_log(credential: Credential, event: Event, error: Refusal | OSError | None) -> None:
    """Log what becomes of a credential at `credbroker`, as a warning where something is wrong."""
    level = logging.INFO if error is None else logging.WARNING
    _LOG.log(level, "the credential for %s %s: %s", credential.resource, event, error or "")


class Keeper:
    """Keeps one credential. `former` is the lease that it had before its present one, if it has been issued anew."""

    def __init__(
        self, renewer: Renewer, credential: Credential, wanted: CredentialRequest, clock: Clock, ids: Ids, tell: Tell
    ) -> None:
        """Make a keeper of a credential that has just come."""
        self.former = ""
        self._renewer = renewer
        self._credential = credential
        self._wanted = wanted
        self._clock = clock
        self._ids = ids
        self._tell = tell
        self._request_id = ids()
        self._in_vain = False  # the last new lease ends no later than the one before

    async def run(self) -> None:
        """Keep it until it has ended for good, or the task is cancelled. What goes wrong is told once."""
        failing, waits = False, pauses(_SHORTEST_WAIT, _LONGEST_WAIT)
        await self._wait(self._due(), while_presentable=True)
        while True:
            try:
                self._say(await self._renew(), None)
            except (Refusal, OSError) as error:
                if isinstance(error, Refusal) and _is_end(error):
                    self._credential.ended = error
                    self._say(Event.ENDED, error)
                    return
                if not failing:
                    self._say(Event.FAILING, error)
                failing = True
                again = error.hints.retry_seconds if isinstance(error, Refusal) else 0
                await self._wait(max(next(waits), again))
            else:
                failing, waits = False, pauses(_SHORTEST_WAIT, _LONGEST_WAIT)
                await self._wait(self._due(), while_presentable=True)

    async def _renew(self) -> Event:
        """Get another token, on this lease or on a new one.

        The lease is asked for first, always: only the broker knows whether it was revoked.
        """
        before, ours = self._credential.expires_at, self._renewer.can_present(self._credential)
        try:
            await self._renewer.renew(self._credential, lifetime=self._wanted.lifetime)
        except Refusal as refusal:
            if not _is_over(refusal):
                raise
        else:
            self._in_vain = self._in_vain and self._credential.expires_at <= before
            if ours and (self._in_vain or self._credential.expires_at > before):
                return Event.RENEWED
        await self._issue()
        self._in_vain = self._credential.expires_at <= before
        return Event.REISSUED

    async def _issue(self) -> None:
        """Ask for a new lease; under the same id until there is an answer, so that no other is left behind."""
        former = self._credential.lease_id
        try:
            await self._renewer.issue_again(self._credential, self._wanted, self._request_id)
        except Refusal as refusal:
            if refusal.reason not in AGAIN:
                self._request_id = self._ids()
            raise
        self.former, self._request_id = former, self._ids()

    def _say(self, event: Event, error: Refusal | OSError | None) -> None:
        try:
            self._tell(self._credential, event, error)
        except OSError:
            if error is None:
                raise  # what was told of could not be handed on
        except Exception:  # noqa: BLE001 (it is somebody else's, and must not end what it is told of)
            _LOG.exception("what is told of credentials has failed")

    def _due(self) -> float:
        """Report how long to leave a token that has just come as it is."""
        return max(_SHORTEST_WAIT, self._credential.life(self._clock()) * _RENEW_AFTER)

    async def _wait(self, seconds: float, *, while_presentable: bool = False) -> None:
        """Wait by both clocks: one stands still while the machine sleeps, the other may be set.

        With `while_presentable`, no longer than what it is bound to is still what we show.
        """
        time = asyncio.get_running_loop().time
        until, end = time() + seconds, self._clock() + timedelta(seconds=seconds)
        while True:
            left = min(until - time(), (end - self._clock()) / timedelta(seconds=1))
            if left <= 0 or (while_presentable and not self._renewer.can_present(self._credential)):
                return
            await asyncio.sleep(min(left, _GLANCE_SECONDS))


def _is_end(refusal: Refusal) -> bool:
    """Report whether this ends it for good: the lease was revoked, or is not there; the task is over."""
    revoked = refusal.reason is Reason.LEASE_NOT_LIVE and not _is_over(refusal)
    return revoked or refusal.reason in _ENDS


def _is_over(refusal: Refusal) -> bool:
    """Report whether a new lease may follow: this one has merely expired, or can become no longer.

    The latter is said of a caller's short proof as well; then a new lease is refused for the same reason.
    """
    if refusal.reason is Reason.LEASE_NOT_LIVE:
        return refusal.hints.lease_state == LeaseState.EXPIRED
    return refusal.reason is Reason.LIFETIME_EXHAUSTED
