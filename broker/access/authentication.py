"""Who calls? The one way from what a call shows to a principal, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.credential import dpop
from broker.credential.replays import Replays
from broker.identity.jwt import JwtAuthenticator, JwtEvidence, UnknownIssuerKey
from broker.identity.x509 import Authenticator, PeerEvidence
from broker.lease.desk import Desk
from broker.lease.single_use import use_once
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidSource


@dataclass(frozen=True, slots=True)
class PresentedProof:
    """A proof of possession (RFC 9449) as it came with a call, which is for this method and URL."""

    text: str
    method: str
    url: str


@dataclass(frozen=True, slots=True)
class Authentication:
    """Makes principals of certificates and of tokens; of none while we have no identity of our own (`source`)."""

    desk: Desk
    source: SvidSource
    certificates: Authenticator
    tokens: JwtAuthenticator
    issuers: TrustedIssuers
    replays: Replays

    def by_certificate(self, evidence: PeerEvidence) -> Principal:
        """Return the principal behind a connection.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_EXPIRED or IDENTITY_UNKNOWN; UNAVAILABLE.
        """
        self._check_ourselves()
        return self.certificates.authenticate(evidence, self.desk.clock())

    async def by_token(self, token: str, shown: PresentedProof | None = None) -> Principal:
        """Return the principal that a token proves, and use the token up if it is good for one time.

        Of a token that is bound to a key, the proof that came with the call must be of that key.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_EXPIRED, IDENTITY_UNKNOWN, ASSERTION_REPLAYED;
                PROOF_INVALID; UNAVAILABLE, LEDGER_UNAVAILABLE.
        """
        self._check_ourselves()
        if not token:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                "the call shows neither a client certificate nor a token that proves an identity",
                Hints(missing="authorization", next="send a JWT-SVID, or a token of a trusted issuer, as bearer token"),
            )
        evidence = await self._evidence(token)
        principal = self._in_hand(evidence, shown)
        if evidence.once:
            await use_once(self.desk, evidence.once, evidence.issued_at, principal.not_after)
        return principal

    def by_token_again(self, token: str) -> Principal:
        """Return the principal of a token in a call that goes on, which was let in with it; else as `by_token`."""
        self._check_ourselves()
        return self.tokens.authenticate(token, self.desk.clock()).principal

    def with_key(self, principal: Principal, shown: PresentedProof) -> Principal:
        """Return a principal that has proven on this call to hold a key, unless it has already.

        Raises:
            Refusal: PROOF_INVALID; UNAVAILABLE.
        """
        if principal.proof_key:
            return principal
        now = self.desk.clock()
        proven = dpop.verify(shown.text, dpop.Request(method=shown.method, url=shown.url), now)
        self.replays.use(proven, now)
        return replace(principal, proof_key=proven.thumbprint)

    def _check_ourselves(self) -> None:
        """Serve nobody who could not be sure any more that it is we who answer."""
        if self.desk.clock() >= self.source.material.not_after:
            raise Refusal(
                Reason.UNAVAILABLE,
                "the broker has no identity now: its X.509-SVID has expired, or was taken from it",
                Hints(next="try again in a moment; operators: the broker's log says why"),
            )

    def _in_hand(self, evidence: JwtEvidence, shown: PresentedProof | None) -> Principal:
        if not evidence.key:
            return evidence.principal
        if shown is None:
            raise Refusal(
                Reason.PROOF_INVALID,
                "the token is bound to a key (`cnf`), and the call proves none",
                Hints(missing="DPoP", next="send a DPoP proof of that key with the call (RFC 9449)"),
            )
        principal = self.with_key(evidence.principal, shown)
        if principal.proof_key != evidence.key:
            dpop.refuse("it is of another key than the one that the token is bound to (`cnf`)")
        return principal

    async def _evidence(self, token: str) -> JwtEvidence:
        try:
            return self.tokens.authenticate(token, self.desk.clock())
        except UnknownIssuerKey as error:
            await self._refresh(error)
        return self.tokens.authenticate(token, self.desk.clock())

    async def _refresh(self, unknown: UnknownIssuerKey) -> None:
        """Look for the key of a token. One that seems to be forged is called so if it cannot be told now."""
        try:
            await self.issuers.refresh(unknown)
        except Refusal:
            if unknown.forged:
                raise unknown from None
            raise
