"""The token endpoint (RFC 6749 section 3.2): the same issuing as over gRPC, asked for by OAuth's grants."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from broker.access.presented import PresentedIdentity
from broker.access.summary import RequestSummary
from broker.credential.details import detail_of
from broker.intent import validation
from broker.intent.scopes import scope_of
from broker.lease.desk import Desk
from broker.lease.infer_task import infer_task
from broker.lease.issue import issue
from broker.lease.token import Issued
from broker.model.intent import Intent
from broker.model.lease import Binding
from broker.model.principal import Principal
from broker.web import grant_parameters
from broker.web.errors import NO_STORE
from broker.web.forms import Form
from broker.web.grant_types import GRANT_TYPES, grant_type_of


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Issues credentials."""

    desk: Desk

    def present(self, _headers: Headers, form: Form) -> PresentedIdentity:
        """Return what the grant says of who asks."""
        return grant_type_of(form).present(form)

    async def answer(self, caller: Principal, form: Form) -> Response:
        """Issue what is asked for."""
        issued = await issue(self.desk, caller, await self._intent(caller, form))
        return JSONResponse(self._issued(issued) | dict(grant_type_of(form).answer), headers=NO_STORE)

    def summary(self, form: Form) -> RequestSummary:
        """Return what a request was about, as far as its form has parameters for that."""
        return RequestSummary(
            task_id=form.get("task"),
            resource=form.get("resource") or form.get("audience"),
            tools=tuple(item for item in form.get("scope").split(" ") if item),
        )

    def is_grant(self, form: Form) -> bool:
        """Report whether the grant was the caller's identity, too."""
        grant_type = GRANT_TYPES.get(form.get("grant_type"))
        return grant_type is not None and grant_type.is_identity

    async def _intent(self, agent: Principal, form: Form) -> Intent:
        uri = grant_parameters.resource(form)
        grants = grant_parameters.grants(form, uri)
        task_id = form.get("task")
        return Intent(
            task_id=validation.identifier(task_id, "task") if task_id else await infer_task(self.desk, agent),
            resource=uri,
            grants=grants,
        )

    def _issued(self, issued: Issued) -> dict[str, object]:
        lease = issued.lease
        return {
            "access_token": issued.token,
            "token_type": "DPoP" if lease.binding is Binding.DPOP else "Bearer",
            "expires_in": max(0, int((lease.expires_at - self.desk.clock()).total_seconds())),
            "scope": scope_of(grant.tool for grant in lease.grants),
            "authorization_details": [detail_of(lease.resource, grant) for grant in lease.grants],
        }
