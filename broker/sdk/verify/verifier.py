"""The verifier: every call checked where it is served, without a network trip.

The order of the checks is the order below. Whatever is not known to be good is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.keys import KeySet
from broker.credential.replays import Nonces
from broker.intent.scopes import check_resource
from broker.model.bounded_cache import BoundedCache
from broker.model.clock import Clock
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.principal import ANY_TENANT
from broker.sdk.verify.admitted import Admitted, Call
from broker.sdk.verify.presentation import TOKEN_ALONE, Presentation, SenderConstraint
from broker.sdk.verify.revocations import Revocations
from broker.system import boottime, system_clock

_REMEMBERED = 10_000
_SECRET_BYTES = 32
_LEEWAY = timedelta(seconds=5)  # for clocks that differ; none is given to expiry
_FRESH_TOKEN = Hints(next="ask the broker for a new credential")


@dataclass(slots=True)
class _Verified:
    """A token that was verified, and what the revocations were when it was last found alive."""

    claims: Claims
    version: int = -1


class Verifier:
    """Checks calls to one resource. Fed by `watching`; until then, and whenever it is stale, it refuses all.

    Any number of threads may check while one thread feeds it.
    """

    def __init__(
        self,
        audience: str,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = boottime,
        nonce_key: bytes = b"",
    ) -> None:
        """Make a verifier for the resource URI that tokens must be for.

        With a `nonce_key`, DPoP proofs must hold a nonce of ours (RFC 9449 section 9). It is a secret of at least 32
        bytes that the servers of one resource share.

        Raises:
            Refusal: INVALID_ARGUMENT: no task can declare such a resource, so no token could be for it; or the key is
                no such secret.
        """
        check_resource(audience, "audience")
        check_secret(nonce_key, "nonce_key")
        self.audience = audience
        self.issuer = ""
        self.tenant = ""
        self.keys = KeySet.of([])
        self.revocations = Revocations()
        self.unknown_key_seen = False
        self.clock = clock
        self._nonces = Nonces(nonce_key) if nonce_key else None
        self._check_sender = SenderConstraint(self._nonces)
        self.monotonic = monotonic
        self._fresh_until = float("-inf")
        self._remembered: BoundedCache[str, _Verified] = BoundedCache(_REMEMBERED)

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

    def nonce(self) -> str:
        """Return the nonce that a DPoP proof must hold now; empty, if it need hold none."""
        return "" if self._nonces is None else self._nonces.current(self.clock())

    def is_fresh(self) -> bool:
        """Report whether what is known of revocations is new enough to accept anything."""
        return self.monotonic() < self._fresh_until

    def check(self, token: str, tool: str, arguments: object, presentation: Presentation = TOKEN_ALONE) -> Call:
        """Check a call: the token, the tool's name, its arguments as parsed JSON, and who presents it.

        A DPoP proof is used up by it.

        Raises:
            Refusal: VERIFIER_STALE, TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_REVOKED, HOLDER_MISMATCH, PROOF_INVALID,
                PROOF_NONCE_REQUIRED, TOOL_NOT_GRANTED or ARGUMENT_OUT_OF_BOUNDS.
        """
        return self.admit(token, presentation).check(tool, arguments)

    def admit(self, token: str, presentation: Presentation = TOKEN_ALONE) -> Admitted:
        """Check all of a credential that does not depend on the tool; else as `check`.

        For servers that take several calls in one request, or show a caller only what it may call.
        """
        now = self.clock()
        claims = self._alive(token, now)
        # 5. Who presents it.
        self._check_sender(token, claims, presentation, now)
        return Admitted(claims)

    def alive(self, token: str) -> Claims:
        """Check all of a credential but who presents it: before a body is read for it, and while it is in use.

        Raises:
            Refusal: VERIFIER_STALE, TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED.
        """
        return self._alive(token, self.clock())

    def _alive(self, token: str, now: datetime) -> Claims:
        # 1. Nothing is accepted on revocations that may be out of date.
        if self.monotonic() >= self._fresh_until:
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
        if now >= claims.expires_at:
            raise Refusal(Reason.TOKEN_EXPIRED, "the credential has expired", _FRESH_TOKEN)
        # 4. Revocation.
        if verified.version != self.revocations.version:
            self._check_revocation(verified)
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
        return remembered.keep(token, _Verified(claims))

    def _forget_tokens(self) -> None:
        self._remembered = BoundedCache(_REMEMBERED)

    def _check_revocation(self, verified: _Verified) -> None:
        version = self.revocations.version  # before the rules: one that comes meanwhile is looked at next time
        if self.revocations.ended_by(verified.claims) is not None:
            raise Refusal(Reason.TOKEN_REVOKED, "the credential was revoked", _FRESH_TOKEN)
        verified.version = version


def check_secret(key: bytes, field: str) -> None:
    """Check a key of a server's own, if there is one.

    Raises:
        Refusal: INVALID_ARGUMENT: it is so short that it could be guessed.
    """
    if key and len(key) < _SECRET_BYTES:
        raise invalid(field, f"must be a secret of at least {_SECRET_BYTES} bytes, such as secrets.token_bytes(32)")


def _invalid(what: str) -> Refusal:
    return Refusal(Reason.TOKEN_INVALID, f"the credential is not acceptable: {what}", _FRESH_TOKEN)
