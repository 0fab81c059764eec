"""The verifier: every call checked where it is served, without a network trip.

The order of the checks is the order below. Whatever is not known to be good is refused.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.keys import KeySet
from broker.intent.constraints import violation
from broker.intent.scopes import check_tool, scope_of
from broker.model.clock import Clock, system_clock
from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Binding
from broker.model.principal import ANY_TENANT
from broker.sdk.revocations import Revocations

_REMEMBERED = 10_000
_LEEWAY = timedelta(seconds=5)  # for clocks that differ; none is given to expiry
_FRESH_TOKEN = Hints(next="ask the broker for a new credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that may go ahead: whose it is, and what for."""

    lease_id: str
    task_id: str
    tenant: str
    holder: str
    tool: str


@dataclass(slots=True)
class _Verified:
    """A token that was verified, and what the revocations were when it was last found alive."""

    claims: Claims
    version: int = -1


class Verifier:
    """Checks calls to one resource. Fed by `broker.sdk.feed`; until then, and whenever it is stale, it refuses all.

    Any number of threads may check while one thread feeds it.
    """

    def __init__(
        self, audience: str, clock: Clock = system_clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a verifier for the resource URI that tokens must be for."""
        self.audience = audience
        self.issuer = ""
        self.tenant = ""
        self.keys = KeySet.of([])
        self.revocations = Revocations()
        self.unknown_key_seen = False
        self.clock = clock
        self._monotonic = monotonic
        self._fresh_until = float("-inf")
        self._remembered: OrderedDict[str, _Verified] = OrderedDict()

    def use_keys(self, issuer: str, keys: KeySet) -> None:
        """Take the broker's keys. What was verified with a key that is gone must be verified again."""
        self.issuer, self.keys = issuer, keys
        self._forget_tokens()

    def serve(self, tenant: str) -> None:
        """Accept tokens of the tenant whose revocations are known, `*` for all, and of no other."""
        if tenant != self.tenant:
            self.tenant = tenant
            self._forget_tokens()

    def fresh_until(self, monotonic: float) -> None:
        """Be fresh until an instant of the monotonic clock."""
        self._fresh_until = monotonic

    def is_fresh(self) -> bool:
        """Tell whether what is known of revocations is new enough to accept anything."""
        return self._monotonic() < self._fresh_until

    def check(self, token: str, tool: str, arguments: object, peer: str | None = None) -> Call:
        """Check a call: the token, the tool's name, its arguments as parsed JSON, and the caller's SPIFFE ID by TLS.

        Raises:
            Refusal: VERIFIER_STALE, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED, HOLDER_MISMATCH, TOOL_NOT_GRANTED or
                ARGUMENT_OUT_OF_BOUNDS.
        """
        claims = self._admit(token, peer)
        self._check_grant(claims, tool, arguments)
        return Call(
            lease_id=claims.lease_id, task_id=claims.task_id, tenant=claims.tenant, holder=claims.subject, tool=tool
        )

    def granted_tools(self, token: str, peer: str | None = None) -> tuple[str, ...]:
        """List the tools a token grants; for servers that show a caller only what it may call.

        Raises:
            Refusal: as `check`, but for what concerns a tool.
        """
        return tuple(grant.tool for grant in self._admit(token, peer).grants)

    def _admit(self, token: str, peer: str | None) -> Claims:
        """Check all of a token that does not depend on the call."""
        # 1. Nothing is accepted on revocations that may be out of date.
        if self._monotonic() >= self._fresh_until:
            raise Refusal(
                Reason.VERIFIER_STALE,
                "this server has lost touch with the broker, so it accepts no credential",
                Hints(next="try again in a moment; operators: see the revocation feed"),
            )
        # 2. Form, signature, issuer, audience and tenant: once per token.
        verified = self._remembered.get(token)
        if verified is None:
            verified = self._verify(token)
        claims = verified.claims
        # 3. Time: at its instant a token is dead (law 6).
        if self.clock() >= claims.expires_at:
            raise Refusal(Reason.TOKEN_EXPIRED, "the credential has expired", _FRESH_TOKEN)
        # 4. Revocation.
        if verified.version != self.revocations.version:
            self._check_revocation(verified)
        # 5. The hands it is in.
        if claims.binding is Binding.IDENTITY and peer != claims.subject:
            raise Refusal(
                Reason.HOLDER_MISMATCH,
                "the credential is in other hands than its holder's",
                Hints(missing="the holder's TLS identity", next="each workload must ask for a credential of its own"),
            )
        return claims

    def _verify(self, token: str) -> _Verified:
        # Taken before the keys: if they change meanwhile, what was verified with the former is remembered in vain.
        remembered = self._remembered
        try:
            claims = jose.decode(token, self.keys)
        except jose.UnknownKey:
            self.unknown_key_seen = True
            raise
        if claims.issuer != self.issuer:
            raise _invalid("it is from another issuer")
        if claims.audience != self.audience:
            raise _invalid("it is for another resource")
        if self.tenant not in (claims.tenant, ANY_TENANT):
            raise _invalid("it is of a tenant that this server does not serve")
        if claims.issued_at > self.clock() + _LEEWAY:
            raise _invalid("it is not valid yet; compare the clocks")
        verified = remembered[token] = _Verified(claims)
        while len(remembered) > _REMEMBERED:
            remembered.popitem(last=False)
        return verified

    def _forget_tokens(self) -> None:
        self._remembered = OrderedDict()

    def _check_revocation(self, verified: _Verified) -> None:
        version = self.revocations.version  # before the rules: one that comes meanwhile is looked at next time
        if self.revocations.ended_by(verified.claims) is not None:
            raise Refusal(Reason.TOKEN_REVOKED, "the credential was revoked", _FRESH_TOKEN)
        verified.version = version

    def _check_grant(self, claims: Claims, tool: str, arguments: object) -> None:
        """Check 6, the tool, and 7, its arguments."""
        grant = claims.grant(tool)
        if grant is None:
            raise _not_granted(tool)
        if not grant.constraints:
            return
        broken = violation(grant.constraints, arguments)
        if broken is not None:
            # What the argument was is the caller's business, and may be a secret; what it must be is not.
            raise Refusal(
                Reason.ARGUMENT_OUT_OF_BOUNDS,
                f"the argument `{broken.path}` of tool `{tool}` breaks the constraint `{broken.op.value}`",
                Hints(missing=f"{broken.path} {broken.op.value}", next="keep to the constraints of the credential"),
            )


def _not_granted(tool: str) -> Refusal:
    try:
        check_tool(tool, "tool")
    except Refusal:
        # It came from outside, and what is said here ends up in logs and headers.
        return Refusal(Reason.TOOL_NOT_GRANTED, "the credential does not grant this, and no tool has such a name")
    return Refusal(
        Reason.TOOL_NOT_GRANTED,
        f"the credential does not grant tool `{tool}`",
        Hints(missing=scope_of([tool]), next="ask the broker for a credential that grants it"),
    )


def _invalid(what: str) -> Refusal:
    return Refusal(Reason.TOKEN_INVALID, f"the credential is not acceptable: {what}", _FRESH_TOKEN)
