"""AgentService: credentials for agents."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import requests
from broker.intent import validation
from broker.lease.desk import Desk
from broker.lease.issue import issue
from broker.lease.release import release
from broker.lease.renew import renew
from broker.lease.token import Issued
from broker.model.intent import Intent
from broker.model.principal import Principal
from broker.v1 import agent_service_pb2 as pb
from broker.wire.grants import grants_from_wire
from broker.wire.leases import lease_to_wire


@dataclass(frozen=True, slots=True)
class AgentService:
    """The RPCs of agent_service.proto."""

    desk: Desk

    async def issue_credential(
        self, agent: Principal, request: pb.IssueCredentialRequest
    ) -> pb.IssueCredentialResponse:
        """Issue a credential."""
        intent = Intent(
            task_id=requests.required(request.task_id, "task_id"),
            resource=requests.resource(request.resource),
            grants=validation.grants(grants_from_wire(request.grants, "grants"), "grants"),
            lifetime=requests.lifetime(request, "lifetime"),
            request_id=requests.request_id(request.request_id),
            explanation=validation.explanation(request.explanation),
        )
        issued = await issue(self.desk, agent, intent)
        return pb.IssueCredentialResponse(token=issued.token, lease=self._lease(issued))

    async def renew_credential(
        self, agent: Principal, request: pb.RenewCredentialRequest
    ) -> pb.RenewCredentialResponse:
        """Renew a credential."""
        issued = await renew(
            self.desk,
            agent,
            requests.required(request.lease_id, "lease_id"),
            requests.lifetime(request, "lifetime"),
            requests.request_id(request.request_id),
        )
        return pb.RenewCredentialResponse(token=issued.token, lease=self._lease(issued))

    async def release_credential(
        self, agent: Principal, request: pb.ReleaseCredentialRequest
    ) -> pb.ReleaseCredentialResponse:
        """Release a credential."""
        index = await release(self.desk, agent, requests.required(request.lease_id, "lease_id"))
        return pb.ReleaseCredentialResponse(index=index)

    def _lease(self, issued: Issued):  # type: ignore[no-untyped-def]  # noqa: ANN202
        return lease_to_wire(issued.lease, self.desk.clock())
