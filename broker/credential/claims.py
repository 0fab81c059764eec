"""The claims of a token: an RFC 9068 access token that carries its grants as RFC 9396 authorization details.

Each claim is a line of a table: its name, how it is read, and how it is written. A token has exactly these claims.
"""

from __future__ import annotations

import re
from collections.abc import Callable, KeysView, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from broker.credential.details import detail_of, grant_from_detail
from broker.credential.reading import filled_list, integer, refuse, text
from broker.model.grant import Grant
from broker.model.lease import Binding
from broker.model.selector import Selector, selectors_of

_PRIVATE = "credbroker"
_CONFIRMATION = "cnf"
_THUMBPRINTS = {Binding.CERTIFICATE: "x5t#S256", Binding.DPOP: "jkt"}  # RFC 8705 section 3.1, RFC 9449 section 6.1
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says. Instants are whole seconds; `index` is the ledger index of its lease.

    `confirmation` is as in `Lease`.
    """

    issuer: str
    audience: str
    subject: str
    lease_id: str
    task_id: str
    tenant: str
    index: int
    grants: tuple[Grant, ...]
    binding: Binding
    confirmation: str = ""
    issued_at: datetime
    expires_at: datetime

    def grant(self, tool: str) -> Grant | None:
        """Find the grant for a tool."""
        return next((grant for grant in self.grants if grant.tool == tool), None)

    def selectors(self) -> set[Selector]:
        """Return every selector that covers the lease."""
        return selectors_of(
            tenant=self.tenant,
            lease_ids=(self.lease_id,),
            task_id=self.task_id,
            holder=self.subject,
            resource=self.audience,
            tools=[grant.tool for grant in self.grants],
        )


@dataclass(frozen=True, slots=True)
class _Claim:
    """One member of a token.

    `read` takes its value and its name, and raises ValueError. `write` returns None for what a token does not have,
    which only a claim that is not `required` may be.
    """

    name: str
    read: Callable[[Any, str], object]
    write: Callable[[Claims], object]
    required: bool = True


class _Table:
    """The members of an object: exactly these, in this order. Messages name each as `path` and its own name."""

    def __init__(self, path: str, *claims: _Claim) -> None:
        self._names = frozenset(claim.name for claim in claims)
        self._required = frozenset(claim.name for claim in claims if claim.required)
        self._readers = {claim.name: (claim.read, path + claim.name) for claim in claims}
        self._writers = tuple((claim.name, claim.write) for claim in claims)

    def read(self, members: object, _name: str = "") -> dict[str, Any]:
        """Read an object, strictly: what is unknown, missing or of another type refuses."""
        if not isinstance(members, dict) or not self._is_whole(members.keys()):
            refuse("it does not have exactly the claims of a credbroker token")
        values = {}
        for name, value in members.items():
            read, path = self._readers[name]
            values[name] = read(value, path)
        return values

    def write(self, claims: Claims) -> dict[str, object]:
        """Write an object."""
        return {name: value for name, write in self._writers if (value := write(claims)) is not None}

    def _is_whole(self, names: KeysView[str]) -> bool:
        """Report whether these are all that is required, and nothing else but what is not."""
        return names == self._required or self._required <= names <= self._names


def to_payload(claims: Claims) -> dict[str, object]:
    """Return the claims as the members of a JWT."""
    return _CLAIMS.write(claims)


def from_payload(payload: Mapping[str, Any]) -> Claims:
    """Parse the members of a JWT, strictly.

    Raises:
        ValueError: it is not exactly a token of ours.
    """
    said = _CLAIMS.read(payload)
    private = said[_PRIVATE]
    if said["client_id"] != said["sub"]:
        refuse("`client_id` is not `sub`")
    grants = tuple(grant_from_detail(detail, said["aud"]) for detail in said["authorization_details"])
    if said["scope"] != _scope(grants):
        refuse("`scope` and `authorization_details` do not say the same")
    return Claims(
        issuer=said["iss"],
        audience=said["aud"],
        subject=said["sub"],
        lease_id=said["jti"],
        task_id=private["task"],
        tenant=private["tenant"],
        index=private["index"],
        grants=grants,
        binding=private["binding"],
        confirmation=_thumbprint(private["binding"], said),
        issued_at=_instant(max(said["iat"], said["nbf"])),
        expires_at=_instant(said["exp"]),
    )


def _binding(value: object, name: str) -> Binding:
    try:
        return Binding(text(value, name))
    except ValueError:
        refuse(f"`{name}` is unknown")


def _thumbprint(binding: Binding, said: Mapping[str, Any]) -> str:
    name = _THUMBPRINTS.get(binding)
    if name is None:
        if _CONFIRMATION in said:
            refuse("`cnf` does not go with its binding")
        return ""
    confirmation = said.get(_CONFIRMATION)
    thumbprint = confirmation.get(name) if isinstance(confirmation, dict) and len(confirmation) == 1 else None
    if not isinstance(thumbprint, str) or not _THUMBPRINT.fullmatch(thumbprint):
        refuse(f"`cnf` is not exactly the `{name}` of its binding")
    return thumbprint


def _confirmation(claims: Claims) -> dict[str, str] | None:
    name = _THUMBPRINTS.get(claims.binding)
    return None if name is None else {name: claims.confirmation}


def _scope(grants: tuple[Grant, ...]) -> str:
    return " ".join([f"tool:{grant.tool}" for grant in grants])


def _seconds(at: datetime) -> int:
    """Return an instant as a NumericDate (RFC 7519 section 2), here in whole seconds."""
    return int(at.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _unread(value: object, _name: str) -> object:
    """Return a value that is read with its binding alone."""
    return value


_PRIVATE_CLAIMS = _Table(
    f"{_PRIVATE}.",
    _Claim("task", text, attrgetter("task_id")),
    _Claim("tenant", text, attrgetter("tenant")),
    _Claim("index", integer, attrgetter("index")),
    _Claim("binding", _binding, attrgetter("binding.value")),
)
_CLAIMS = _Table(
    "",
    _Claim("iss", text, attrgetter("issuer")),
    _Claim("aud", text, attrgetter("audience")),
    _Claim("sub", text, attrgetter("subject")),
    _Claim("client_id", text, attrgetter("subject")),
    _Claim("iat", integer, lambda claims: _seconds(claims.issued_at)),
    _Claim("nbf", integer, lambda claims: _seconds(claims.issued_at)),
    _Claim("exp", integer, lambda claims: _seconds(claims.expires_at)),
    _Claim("jti", text, attrgetter("lease_id")),
    _Claim("scope", text, lambda claims: _scope(claims.grants)),
    _Claim(
        "authorization_details",
        filled_list,
        lambda claims: [detail_of(claims.audience, grant) for grant in claims.grants],
    ),
    _Claim(_PRIVATE, _PRIVATE_CLAIMS.read, _PRIVATE_CLAIMS.write),
    _Claim(_CONFIRMATION, _unread, _confirmation, required=False),
)
