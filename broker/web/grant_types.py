"""The grants of the token endpoint: each a set of hooks that the endpoint calls in order, so that none forgets a step.

- `client_credentials` (RFC 6749 section 4.4) with a client assertion (RFC 7523 section 2.2);
- `jwt-bearer` (RFC 7523 section 2.1): workload identity federation;
- `token-exchange` (RFC 8693) of a JWT that proves the caller's own identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from broker.access.presented import PresentedIdentity
from broker.model.errors import invalid
from broker.web.client_assertion import by_assertion
from broker.web.forms import Form

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_SUBJECT_TYPES = frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"})
_REQUESTED_TYPES = frozenset({"", _ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantType:
    """One way to ask for a token.

    `present` checks the parameters that are its own, and returns what proves who asks. `is_identity`: that is the grant
    itself, not the client's authentication. `answer` is what the answer says besides.
    """

    name: str
    present: Callable[[Form], PresentedIdentity]
    is_identity: bool
    answer: Mapping[str, str] = field(default_factory=dict)


def _by_grant(parameter: str, form: Form) -> PresentedIdentity:
    """Return what a client presents by a token that is grant and proof at once."""
    if form.get("client_assertion"):
        raise invalid("client_assertion", f"goes without {parameter}, which proves the identity here")
    return PresentedIdentity(token=form.required(parameter), client_id=form.get("client_id"))


def _by_exchange(form: Form) -> PresentedIdentity:
    """Return what a client presents in a token exchange, for which RFC 8693 section 2.1 has parameters."""
    if form.required("subject_token_type") not in _SUBJECT_TYPES:
        raise invalid("subject_token_type", f"must be one of {', '.join(sorted(_SUBJECT_TYPES))}")
    if form.get("requested_token_type") not in _REQUESTED_TYPES:
        raise invalid("requested_token_type", f"must be {_ACCESS_TOKEN}")
    if form.get("actor_token"):
        raise invalid("actor_token", "is not taken: a caller gets credentials for itself alone")
    return _by_grant("subject_token", form)


_ALL = (
    GrantType(name="client_credentials", present=by_assertion, is_identity=False),
    GrantType(
        name="urn:ietf:params:oauth:grant-type:jwt-bearer", present=partial(_by_grant, "assertion"), is_identity=True
    ),
    GrantType(
        name="urn:ietf:params:oauth:grant-type:token-exchange",
        present=_by_exchange,
        is_identity=True,
        answer={"issued_token_type": _ACCESS_TOKEN},
    ),
)
GRANT_TYPES: Mapping[str, GrantType] = MappingProxyType({grant_type.name: grant_type for grant_type in _ALL})
"""By the parameter `grant_type`."""


def grant_type_of(form: Form) -> GrantType:
    """Return the grant type that a form names.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    grant_type = GRANT_TYPES.get(form.required("grant_type"))
    if grant_type is None:
        raise invalid("grant_type", f"must be one of {', '.join(GRANT_TYPES)}")
    return grant_type
