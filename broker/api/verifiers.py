"""VerifierService: keys and revocations for offline verification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from broker.api import pages, requests
from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.lease.introspect import introspect
from broker.model.bounded_cache import BoundedCache
from broker.model.errors import invalid
from broker.model.principal import Principal
from broker.revocation.feed import FRESHNESS, Feed
from broker.revocation.publishing import Applied, Confirmed, Update
from broker.v1 import verifier_service_pb2 as pb
from broker.wire.leases import lease_to_wire
from broker.wire.selectors import rule_to_wire
from broker.wire.times import duration_to_wire, instant_to_wire


@dataclass(frozen=True, slots=True)
class VerifierService:
    """The RPCs of verifier_service.proto. `origin` names the ledger in which indexes count."""

    desk: Desk
    feed: Feed
    keys: Callable[[], KeySet]
    origin: str = ""
    _written: BoundedCache[int, tuple[Update, Sequence[pb.RevocationUpdate]]] = field(
        default_factory=partial(BoundedCache, 16)
    )

    async def get_key_set(self, _verifier: Principal, _request: pb.GetKeySetRequest) -> pb.KeySet:
        """Return the public keys of tokens."""
        return pb.KeySet(jwks=self.keys().to_jwks(), issuer=self.desk.issuer)

    async def watch_revocations(
        self, verifier: Principal, request: pb.WatchRevocationsRequest
    ) -> AsyncIterator[pb.RevocationUpdate]:
        """Stream revocations."""
        async for message in self._watch(verifier, request):
            yield message

    async def follow_revocations(
        self, verifier: Principal, requests: AsyncIterator[pb.FollowRevocationsRequest]
    ) -> AsyncIterator[pb.RevocationUpdate]:
        """Stream revocations, and take confirmations."""
        first = await anext(requests, pb.FollowRevocationsRequest())
        if not first.HasField("watch"):
            raise invalid("watch", "is required in the first message")
        async for message in self._watch(verifier, first.watch, _confirmations(requests)):
            yield message

    async def confirm_revocations(
        self, verifier: Principal, request: pb.ConfirmRevocationsRequest
    ) -> pb.ConfirmRevocationsResponse:
        """Take a confirmation."""
        session_id = requests.required(request.session_id, "session_id")
        freshness = self.feed.confirm(verifier, session_id, request.index)
        return pb.ConfirmRevocationsResponse(index=request.index, freshness=duration_to_wire(freshness))

    async def introspect_credential(
        self, verifier: Principal, request: pb.IntrospectCredentialRequest
    ) -> pb.IntrospectCredentialResponse:
        """Report whether a token is good now."""
        token = await introspect(self.desk, verifier, self.keys(), requests.required(request.token, "token"))
        if token is None:
            return pb.IntrospectCredentialResponse(active=False)
        return pb.IntrospectCredentialResponse(active=True, lease=lease_to_wire(token.lease, self.desk.clock()))

    async def _watch(
        self,
        verifier: Principal,
        request: pb.WatchRevocationsRequest,
        confirmations: AsyncIterator[Applied] | None = None,
    ) -> AsyncIterator[pb.RevocationUpdate]:
        same = request.HasField("resume_index") and request.resume_origin in ("", self.origin)
        resume_index = request.resume_index if same else None
        feed = self.feed.watch(verifier, resume_index, request.checkpoint, request.session_secret, confirmations)
        async for update in feed:
            for message in self._messages(update):
                yield message

    def _messages(self, update: Update) -> Sequence[pb.RevocationUpdate]:
        """Return an update as messages, which many verifiers may be sent."""
        if (written := self._written.get(id(update))) is None:
            written = update, tuple(self._write(update))
            if update.rules:
                self._written.keep(id(update), written)
        return written[1]

    def _write(self, update: Update) -> Iterator[pb.RevocationUpdate]:
        """Yield an update as messages: one, or as many as its rules need to fit into what clients take."""
        pieces = list(pages.pieces(rule_to_wire(rule) for rule in update.rules)) or [[]]
        for number, rules in enumerate(pieces, 1):
            is_first, is_last = number == 1, number == len(pieces)
            yield pb.RevocationUpdate(
                session_id=update.session_id,
                session_secret=update.secret if is_first else "",
                snapshot=update.snapshot and is_first,
                rules=rules,
                index=update.index,
                confirm=update.confirm and is_last,
                tenant=update.tenant,
                freshness=duration_to_wire(FRESHNESS),
                keys_changed=update.keys_changed and is_first,
                more=update.more or not is_last,
                send_time=instant_to_wire(self.desk.clock()),
                origin=self.origin,
                checkpoint=update.checkpoint if is_last else "",
                confirmed=None if update.confirmed is None else _confirmed(update.confirmed),
            )


async def _confirmations(requests: AsyncIterator[pb.FollowRevocationsRequest]) -> AsyncIterator[Applied]:
    async for request in requests:
        if not request.HasField("applied"):
            raise invalid("applied", "is required in every message but the first")
        yield Applied(request.applied.number, request.applied.index)


def _confirmed(confirmed: Confirmed) -> pb.Confirmed:
    return pb.Confirmed(number=confirmed.number, freshness=duration_to_wire(confirmed.freshness))
