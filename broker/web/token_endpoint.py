"""The token endpoint: the same issuing as over gRPC, asked for by OAuth's grants.

- `client_credentials` (RFC 6749 section 4.4) with a client assertion (RFC 7523 section 2.2);
- `jwt-bearer` (RFC 7523 section 2.1): workload identity federation;
- `token-exchange` (RFC 8693) of a JWT that proves the caller's own identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.access.authentication import Authentication, PresentedProof
from broker.access.refusals import RequestSummary, refuse
from broker.credential.claims import detail_of
from broker.intent import validation
from broker.intent.scopes import scope_of
from broker.lease import guards
from broker.lease.desk import Desk
from broker.lease.infer_task import infer_task
from broker.lease.issue import issue
from broker.lease.token import Issued
from broker.model.errors import Refusal, invalid
from broker.model.intent import Intent
from broker.model.lease import Binding
from broker.model.principal import Principal, Role
from broker.web import authorization
from broker.web import callers as web_callers
from broker.web.errors import oauth_error
from broker.web.forms import Form, read_form

CLIENT_CREDENTIALS = "client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
GRANT_TYPES = (CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE)
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_SUBJECT_TYPES = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
_REQUESTED_TYPES = frozenset({"", _ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"})
_NO_STORE: Mapping[str, str] = MappingProxyType({"cache-control": "no-store"})
_METHOD = "IssueCredential"  # what it is called in the ledger, whichever door it comes through


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Issues credentials. `path` is where clients find it, below the issuer."""

    callers: Authentication
    path: str

    async def answer(self, request: Request) -> Response:
        """Answer one request; a refusal is recorded before it is told."""
        form, principal = Form({}), None
        try:
            form = await read_form(request)
            principal = await self._authenticate(request, form)
            guards.in_role(principal, Role.AGENTS)
            issued = await issue(self.callers.desk, principal, await _intent(self.callers.desk, principal, form))
        except Refusal as refusal:
            return await self._refuse(principal, form, refusal)
        return JSONResponse(_answer(issued, self.callers.desk, form), headers=dict(_NO_STORE))

    async def _authenticate(self, request: Request, form: Form) -> Principal:
        """Find out who asks, and whether it holds a key."""
        shown = web_callers.shown_proof(request, self.callers.desk.issuer + self.path)
        principal = await self._principal(form, shown)
        return self.callers.with_key(principal, shown) if shown else principal

    async def _principal(self, form: Form, shown: PresentedProof | None) -> Principal:
        match form.required("grant_type"):
            case "client_credentials":
                return await web_callers.client(self.callers, form, shown)
            case t if t == JWT_BEARER:
                return await self._by_grant(form, "assertion", shown)
            case t if t == TOKEN_EXCHANGE:
                _check_exchange(form)
                return await self._by_grant(form, "subject_token", shown)
        raise invalid("grant_type", f"must be one of {', '.join(GRANT_TYPES)}")

    async def _by_grant(self, form: Form, name: str, shown: PresentedProof | None) -> Principal:
        """Authenticate by a token that is grant and proof at once."""
        if form.get("client_assertion"):
            raise invalid("client_assertion", f"goes without {name}, which proves the identity here")
        principal = await self.callers.by_token(form.required(name), shown)
        web_callers.check_client_id(principal, form)
        return principal

    async def _refuse(self, principal: Principal | None, form: Form, refusal: Refusal) -> Response:
        refusal = await refuse(self.callers.desk, principal, _asked(form), refusal)
        error = oauth_error(refusal, grant=form.get("grant_type") != CLIENT_CREDENTIALS)
        return JSONResponse(error.body, error.status, {**_NO_STORE, **error.headers})


async def _intent(desk: Desk, agent: Principal, form: Form) -> Intent:
    uri = authorization.resource(form)
    wanted = authorization.grants(form, uri)
    named = form.get("task")
    return Intent(
        task_id=validation.identifier(named, "task") if named else await infer_task(desk, agent),
        resource=uri,
        grants=wanted,
    )


def _check_exchange(form: Form) -> None:
    """Check what is particular to a token exchange (RFC 8693 section 2.1)."""
    if form.required("subject_token_type") not in _SUBJECT_TYPES:
        raise invalid("subject_token_type", f"must be one of {', '.join(sorted(_SUBJECT_TYPES))}")
    if form.get("requested_token_type") not in _REQUESTED_TYPES:
        raise invalid("requested_token_type", f"must be {_ACCESS_TOKEN}")
    if form.get("actor_token"):
        raise invalid("actor_token", "is not taken: a caller gets credentials for itself alone")


def _answer(issued: Issued, desk: Desk, form: Form) -> dict[str, object]:
    lease = issued.lease
    answer: dict[str, object] = {
        "access_token": issued.token,
        "token_type": "DPoP" if lease.binding is Binding.DPOP else "Bearer",
        "expires_in": max(0, int((lease.expires_at - desk.clock()).total_seconds())),
        "scope": scope_of(grant.tool for grant in lease.grants),
        "authorization_details": [detail_of(lease.resource, grant) for grant in lease.grants],
    }
    if form.get("grant_type") == TOKEN_EXCHANGE:
        answer["issued_token_type"] = _ACCESS_TOKEN
    return answer


def _asked(form: Form) -> RequestSummary:
    """Return what a request was about, as far as its form has parameters for that."""
    return RequestSummary(
        method=_METHOD,
        task_id=form.get("task"),
        resource=form.get("resource") or form.get("audience"),
        tools=tuple(item for item in form.get("scope").split(" ") if item),
    )
