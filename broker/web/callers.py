"""Who calls an OAuth endpoint: a JWT that proves an identity, as client assertion, as grant or as bearer token."""

from __future__ import annotations

from starlette.requests import Request

from broker.access.authentication import Authentication, PresentedProof
from broker.identity.ids import subject_of
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.principal import Principal
from broker.web.forms import Form

ASSERTION_TYPES = frozenset(
    {
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",  # RFC 7523 section 2.2
        "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",  # draft-ietf-oauth-spiffe-client-auth
    }
)
_SCHEME = "bearer "


def shown_proof(request: Request, url: str) -> PresentedProof | None:
    """Return the proof of possession that came with a request for a URL of ours, if one did."""
    proofs = request.headers.getlist("dpop")
    return PresentedProof(",".join(proofs), "POST", url) if proofs else None


async def client(callers: Authentication, form: Form, shown: PresentedProof | None) -> Principal:
    """Authenticate a client by its assertion.

    Raises:
        Refusal: as `Authentication.by_token`; INVALID_ARGUMENT.
    """
    if form.get("client_secret"):
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "secrets of clients are not taken",
            Hints(missing="client_assertion", next="send a JWT-SVID, or a token of a trusted issuer"),
        )
    assertion = form.get("client_assertion")
    if assertion and form.get("client_assertion_type") not in ASSERTION_TYPES:
        raise invalid("client_assertion_type", f"must be one of {', '.join(sorted(ASSERTION_TYPES))}")
    principal = await callers.by_token(assertion, shown)
    check_client_id(principal, form)
    return principal


async def client_or_bearer(
    callers: Authentication, request: Request, form: Form, shown: PresentedProof | None
) -> Principal:
    """Authenticate a client by its assertion, or by the same kind of token in the header `Authorization`.

    Raises:
        Refusal: as `client`.
    """
    header = request.headers.get("authorization", "")
    if not header:
        return await client(callers, form, shown)
    if form.get("client_assertion") or header[: len(_SCHEME)].lower() != _SCHEME:
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "the caller does not prove its identity in exactly one way that is taken",
            Hints(next="send one client assertion, or one bearer token"),
        )
    return await callers.by_token(header[len(_SCHEME) :].strip(), shown)


def check_client_id(principal: Principal, form: Form) -> None:
    """Check that a client id, which nobody has to send, names the principal: by its id, or an issuer's name for it.

    Raises:
        Refusal: IDENTITY_INVALID.
    """
    client_id = form.get("client_id")
    if client_id and client_id not in (principal.id, subject_of(principal.id)):
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "the client id is not that of the assertion",
            Hints(next="leave client_id out"),
        )
