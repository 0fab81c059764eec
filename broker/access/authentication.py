"""Who calls? The one way from what a call presents to a principal, whichever door it came through."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.access.entrances import OPERATORS, ORCHESTRATORS
from broker.access.lanes import Strangers
from broker.access.presented import PresentedIdentity, PresentedProof
from broker.credential import dpop
from broker.credential.replays import Replays, once
from broker.identity.ids import subject_of
from broker.identity.jwt import JwtAuthenticator, JwtEvidence, UnknownIssuerKey
from broker.identity.x509 import Authenticator
from broker.lease.desk import Desk
from broker.lease.single_use import use_once
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Once, Principal
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidSource

_TAKE_AWAY = (OPERATORS, ORCHESTRATORS)


@dataclass(frozen=True, slots=True)
class Authentication:
    """Makes principals of certificates and of tokens; of none while we have no identity of our own (`source`)."""

    desk: Desk
    source: SvidSource
    certificates: Authenticator
    tokens: JwtAuthenticator
    issuers: TrustedIssuers
    replays: Replays
    strangers: Strangers

    async def authenticate(self, presented: PresentedIdentity, *, prove_key: bool) -> Principal:
        """Return the principal that calls. A token that is good for one time is used up.

        Of a token that is bound to a key, the proof that came with the call must be of that key. With `prove_key`, any
        proof that came is checked, and its key is the principal's.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_INVALID, IDENTITY_EXPIRED, IDENTITY_UNKNOWN, ASSERTION_REPLAYED;
                PROOF_INVALID; UNAVAILABLE, LEDGER_UNAVAILABLE.
        """
        self._check_ourselves()
        if presented.peer is not None:
            principal = self.certificates.authenticate(presented.peer, self.desk.clock())
        else:
            evidence = await self._evidence(presented)
            principal = self._in_hand(evidence, presented.proof)
            if evidence.once:
                token = Once(name=evidence.once, issued_at=evidence.issued_at, until=principal.not_after)
                with self.strangers.waiting(presented.address()):
                    await use_once(self.desk, token, urgent=not principal.roles.isdisjoint(_TAKE_AWAY))
            _check_client_id(principal, presented.client_id)
        return self._with_key(principal, presented.proof) if prove_key and presented.proof else principal

    def authenticate_again(self, presented: PresentedIdentity) -> Principal:
        """Return the principal of a call that goes on, and may outlive the certificates, tokens and keys it began with.

        Raises:
            Refusal: as `authenticate`.
        """
        self._check_ourselves()
        if presented.peer is not None:
            return self.certificates.authenticate(presented.peer, self.desk.clock())
        return self.tokens.authenticate(presented.token, self.desk.clock()).principal

    def _with_key(self, principal: Principal, proof: PresentedProof) -> Principal:
        """Return a principal that has proven on this call to hold a key, unless it has already."""
        if principal.proof_key:
            return principal
        now = self.desk.clock()
        proven = dpop.verify(proof.text, dpop.ProvenRequest(method=proof.method, url=proof.url), now)
        self.replays.use(proven, now)
        return replace(principal, proof_key=proven.thumbprint, spends=once(proven))

    def _check_ourselves(self) -> None:
        """Serve nobody who could not be sure any more that it is we who answer."""
        if self.desk.clock() >= self.source.material.not_after:
            raise Refusal(
                Reason.UNAVAILABLE,
                "the broker has no identity now: its X.509-SVID has expired, or was taken from it",
                Hints(next="try again in a moment; operators: the broker's log says why"),
            )

    def _in_hand(self, evidence: JwtEvidence, proof: PresentedProof | None) -> Principal:
        if not evidence.key:
            return evidence.principal
        if proof is None:
            raise Refusal(
                Reason.PROOF_INVALID,
                "the token is bound to a key (`cnf`), and the call proves none",
                Hints(missing="DPoP", next="send a DPoP proof of that key with the call (RFC 9449)"),
            )
        principal = self._with_key(evidence.principal, proof)
        if principal.proof_key != evidence.key:
            dpop.refuse("it is of another key than the one that the token is bound to (`cnf`)")
        return principal

    async def _evidence(self, presented: PresentedIdentity) -> JwtEvidence:
        if not presented.token:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                "the call shows neither a client certificate nor a token that proves an identity",
                Hints(missing="authorization", next="send a JWT-SVID, or a token of a trusted issuer, as bearer token"),
            )
        try:
            return self.tokens.authenticate(presented.token, self.desk.clock())
        except UnknownIssuerKey as error:
            with self.strangers.waiting(presented.address()):
                await self._refresh(error)
        return self.tokens.authenticate(presented.token, self.desk.clock())

    async def _refresh(self, unknown: UnknownIssuerKey) -> None:
        """Look for the key of a token. One that seems to be forged is called so if it cannot be told now."""
        try:
            await self.issuers.refresh(unknown)
        except Refusal:
            if unknown.forged:
                raise unknown from None
            raise


def _check_client_id(principal: Principal, client_id: str) -> None:
    if client_id and client_id not in (principal.id, subject_of(principal.id)):
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "the client id is not that of the assertion",
            Hints(next="leave client_id out"),
        )
