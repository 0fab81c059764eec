"""What can be done with a token that is there: look it up (RFC 7662), and end it (RFC 7009)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.access.authentication import Authentication
from broker.credential.claims import to_payload
from broker.credential.keys import KeySet
from broker.lease import guards
from broker.lease.introspect import introspect
from broker.lease.release import revoke_token
from broker.model.errors import Refusal
from broker.model.lease import Binding
from broker.model.principal import Role
from broker.web import callers as web_callers
from broker.web.errors import oauth_error
from broker.web.forms import read_form

_SCHEME = re.compile(r"^\s*(authorization:)?\s*(bearer|dpop)\s+", re.IGNORECASE)
_NO_STORE = (("cache-control", "no-store"),)


@dataclass(frozen=True, slots=True)
class IntrospectionEndpoint:
    """Tells a resource whether a token that is for it is good now. Of other tokens it tells nothing.

    `path` is where clients find it, below the issuer.
    """

    callers: Authentication
    keys: Callable[[], KeySet]
    path: str

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        try:
            form = await read_form(request)
            shown = web_callers.shown_proof(request, self.callers.desk.issuer + self.path)
            verifier = await web_callers.client_or_bearer(self.callers, request, form, shown)
            guards.in_role(verifier, Role.VERIFIERS)
            token = form.required("token")
            found = await introspect(self.callers.desk, verifier, self.keys(), token)
        except Refusal as refusal:
            return _refuse(refusal)
        if found is None:
            return JSONResponse({"active": False}, headers=dict(_NO_STORE))
        kind = "DPoP" if found.lease.binding is Binding.DPOP else "Bearer"
        return JSONResponse({"active": True, "token_type": kind, **to_payload(found.claims)}, headers=dict(_NO_STORE))


@dataclass(frozen=True, slots=True)
class RevocationEndpoint:
    """Ends the lease of a token for whoever has it: a holder that is done, or a finder of what has leaked."""

    callers: Authentication
    keys: Callable[[], KeySet]

    async def answer(self, request: Request) -> Response:
        """Answer one request: the same, whether there was something to end or not (RFC 7009 section 2.2).

        Only a token of ours that cannot be read is an error: whoever sent it would take it for dead.
        """
        try:
            form = await read_form(request)
            await revoke_token(self.callers.desk, self.keys(), _bare(form.required("token")))
        except Refusal as refusal:
            return _refuse(refusal)
        return Response(status_code=200, headers=dict(_NO_STORE))


def _bare(text: str) -> str:
    """Return a token without what people copy along: line breaks, and the scheme of the header it was in."""
    return "".join(_SCHEME.sub("", text).split())


def _refuse(refusal: Refusal) -> Response:
    error = oauth_error(refusal)
    return JSONResponse(error.body, error.status, {**dict(_NO_STORE), **error.headers})
