"""The introspection endpoint (RFC 7662): what the broker itself says of a token now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from broker.access.presented import PresentedIdentity
from broker.access.summary import RequestSummary
from broker.credential.claims import to_payload
from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.lease.introspect import introspect
from broker.model.lease import Binding
from broker.model.principal import Principal
from broker.web.client_assertion import by_assertion_or_bearer
from broker.web.errors import NO_STORE
from broker.web.forms import Form


@dataclass(frozen=True, slots=True)
class IntrospectionEndpoint:
    """Says to a resource whether a token that is for it is good now. Of other tokens it says nothing."""

    desk: Desk
    keys: Callable[[], KeySet]

    def present(self, headers: Headers, form: Form) -> PresentedIdentity:
        """Return what the assertion or the header says of who asks."""
        return by_assertion_or_bearer(headers, form)

    async def answer(self, caller: Principal, form: Form) -> Response:
        """Look the token up."""
        token = await introspect(self.desk, caller, self.keys(), form.required("token"))
        if token is None:
            return JSONResponse({"active": False}, headers=NO_STORE)
        kind = "DPoP" if token.lease.binding is Binding.DPOP else "Bearer"
        return JSONResponse({"active": True, "token_type": kind, **to_payload(token.claims)}, headers=NO_STORE)

    def summary(self, _form: Form) -> RequestSummary:
        """Return nothing: the request is about a token, which is kept nowhere."""
        return RequestSummary()

    def is_grant(self, _form: Form) -> bool:
        """Report that it is not: whoever asks is the client."""
        return False
