"""What clients are told about a guarded server: metadata of the protected resource (RFC 9728), and where it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from broker.credential import dpop
from broker.sdk.guard import http_request
from broker.sdk.guard.http_request import Scope, Send

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
_OK = 200


class ResourceMetadata:
    """The metadata of one resource. Its URL follows from the resource's."""

    def __init__(self, resource: str, authorization_servers: Sequence[str], scopes: Sequence[str]) -> None:
        """Make that of a resource, for which the authorization servers give credentials.

        Without `scopes` no scopes are named: stock clients ask for all that are, and get more than their task needs or
        nothing.
        """
        parts = urlsplit(resource)
        # Between host and path goes the well-known part; a slash behind the host alone goes (RFC 9728 section 3.1).
        path = _WELL_KNOWN + ("" if parts.path == "/" else parts.path)
        self.url = parts._replace(path=path).geturl()
        self._query = parts.query.encode()
        # Some clients leave out any slash at the end.
        self._paths = {unquote(path), unquote(path.rstrip("/"))}
        self._body = json.dumps(_members(resource, authorization_servers, scopes)).encode()

    def is_asked(self, scope: Scope) -> bool:
        """Report whether a request asks for it."""
        asks = scope["method"] in ("GET", "HEAD") or http_request.is_preflight(scope)
        return asks and scope["path"] in self._paths and scope.get("query_string", b"") == self._query

    async def answer(self, scope: Scope, send: Send) -> None:
        """Answer who asks for it: anybody, from a page of any origin, as nothing in it is secret."""
        if http_request.is_preflight(scope):
            await http_request.answer_preflight(send, {**http_request.ANY_ORIGIN, "access-control-allow-headers": "*"})
        else:
            await http_request.respond(send, _OK, "application/json", self._body, http_request.ANY_ORIGIN)


def _members(resource: str, authorization_servers: Sequence[str], scopes: Sequence[str]) -> dict[str, Any]:
    """Describe the resource (RFC 9728 section 2)."""
    named = {"scopes_supported": list(scopes)} if scopes else {}
    return {
        "resource": resource,
        "authorization_servers": list(authorization_servers),
        "bearer_methods_supported": ["header"],
        "authorization_details_types_supported": ["tool_call"],
        "dpop_signing_alg_values_supported": [dpop.ALGORITHM],
        **named,
    }
