"""How a client of an OAuth endpoint proves who it is: by a JWT, as client assertion or as bearer token."""

from __future__ import annotations

from starlette.datastructures import Headers

from broker.access.presented import PresentedIdentity, bearer_token
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.web.forms import Form

ASSERTION_TYPES = frozenset(
    {
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",  # RFC 7523 section 2.2
        "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",  # draft-ietf-oauth-spiffe-client-auth
    }
)


def by_assertion(form: Form) -> PresentedIdentity:
    """Return what a client presents by its assertion.

    Raises:
        Refusal: IDENTITY_INVALID, INVALID_ARGUMENT.
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
    return PresentedIdentity(token=assertion, client_id=form.get("client_id"))


def by_assertion_or_bearer(headers: Headers, form: Form) -> PresentedIdentity:
    """Return what a client presents by its assertion, or by the same kind of token in the header `Authorization`.

    Raises:
        Refusal: IDENTITY_INVALID, INVALID_ARGUMENT.
    """
    authorization = headers.getlist("authorization")
    if not any(authorization):  # an empty one presents nothing
        return by_assertion(form)
    token = bearer_token(authorization)
    if form.get("client_assertion"):
        raise Refusal(
            Reason.IDENTITY_INVALID,
            "the caller does not prove its identity in exactly one way",
            Hints(next="send one client assertion, or one bearer token"),
        )
    return PresentedIdentity(token=token)
