"""VerifierService: keys and revocations for offline verification."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from broker.api import requests
from broker.api.feed import FRESHNESS, Feed, Update
from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.lease.introspect import introspect
from broker.model.principal import Principal
from broker.v1 import verifier_service_pb2 as pb
from broker.wire.leases import lease_to_wire
from broker.wire.selectors import rule_to_wire
from broker.wire.times import duration_to_wire, instant_to_wire


@dataclass(frozen=True, slots=True)
class VerifierService:
    """The RPCs of verifier_service.proto."""

    desk: Desk
    feed: Feed
    keys: Callable[[], KeySet]

    async def get_key_set(self, _verifier: Principal, _request: pb.GetKeySetRequest) -> pb.KeySet:
        """Give the public keys of tokens."""
        return pb.KeySet(jwks=self.keys().to_jwks(), issuer=self.desk.issuer)

    async def watch_revocations(
        self, verifier: Principal, request: pb.WatchRevocationsRequest
    ) -> AsyncIterator[pb.RevocationUpdate]:
        """Stream revocations."""
        resume_index = request.resume_index if request.HasField("resume_index") else None
        async for update in self.feed.watch(verifier, resume_index):
            yield self._update(update)

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
        """Say whether a token is good now."""
        found = await introspect(self.desk, verifier, self.keys(), requests.required(request.token, "token"))
        if found is None:
            return pb.IntrospectCredentialResponse(active=False)
        return pb.IntrospectCredentialResponse(active=True, lease=lease_to_wire(found.lease, self.desk.clock()))

    def _update(self, update: Update) -> pb.RevocationUpdate:
        return pb.RevocationUpdate(
            session_id=update.session_id,
            snapshot=update.snapshot,
            rules=[rule_to_wire(rule) for rule in update.rules],
            index=update.index,
            confirm=update.confirm,
            tenant=update.tenant,
            freshness=duration_to_wire(FRESHNESS),
            keys_changed=update.keys_changed,
            more=update.more,
            send_time=instant_to_wire(self.desk.clock()),
        )
