"""Refusals in OAuth's words (RFC 6749 section 5.2, RFC 8707, RFC 9396, RFC 9449), with our own beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from starlette.responses import JSONResponse, Response

from broker.model.errors import Reason, Refusal

_UNPRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 appendix A.8
NO_STORE: Mapping[str, str] = MappingProxyType({"cache-control": "no-store"})

_UNAUTHORIZED = 401
_RETRY_SECONDS = 5
_ERRORS: Mapping[Reason, tuple[int, str]] = MappingProxyType(
    {
        Reason.INVALID_ARGUMENT: (400, "invalid_request"),
        Reason.IDENTITY_MISSING: (401, "invalid_client"),
        Reason.IDENTITY_INVALID: (401, "invalid_client"),
        Reason.IDENTITY_EXPIRED: (401, "invalid_client"),
        Reason.ASSERTION_REPLAYED: (401, "invalid_client"),
        Reason.PROOF_INVALID: (400, "invalid_dpop_proof"),
        Reason.HOLDER_UNPROVEN: (400, "invalid_dpop_proof"),
        Reason.IDENTITY_UNKNOWN: (400, "unauthorized_client"),
        Reason.GROUP_REQUIRED: (400, "unauthorized_client"),
        Reason.TASK_NOT_FOUND: (400, "invalid_grant"),
        Reason.TASK_NOT_ACTIVE: (400, "invalid_grant"),
        Reason.TASK_AMBIGUOUS: (400, "invalid_request"),
        Reason.LIFETIME_EXHAUSTED: (400, "invalid_grant"),
        Reason.LOCKED: (400, "invalid_grant"),
        Reason.TOOL_NOT_DECLARED: (400, "invalid_scope"),
        Reason.TOOL_UNKNOWN: (400, "invalid_scope"),
        Reason.POLICY_DENIED: (400, "invalid_scope"),
        Reason.POLICY_ERROR: (400, "invalid_scope"),
        Reason.QUOTA_EXCEEDED: (429, "temporarily_unavailable"),
        Reason.LEDGER_UNAVAILABLE: (503, "temporarily_unavailable"),
        Reason.RECORD_ALTERED: (500, "server_error"),
        Reason.UNAVAILABLE: (503, "temporarily_unavailable"),
        Reason.INTERNAL: (500, "server_error"),
    }
)
_FIELDS = MappingProxyType(
    {
        "resource": "invalid_target",
        "audience": "invalid_target",
        "scope": "invalid_scope",
        "authorization_details": "invalid_authorization_details",
        "grant_type": "unsupported_grant_type",
    }
)
"""What is wrong with a parameter, where OAuth has a word of its own for it."""
_AS_GRANT = frozenset({"invalid_client", "unauthorized_client"})


def error_response(refusal: Refusal, *, is_grant: bool = False) -> Response:
    """Return a refusal as an error response. `is_grant`: the identity was the grant, not the client's."""
    status, error = _ERRORS.get(refusal.reason, (500, "server_error"))
    if refusal.reason is Reason.INVALID_ARGUMENT and refusal.violations:
        error = _FIELDS.get(re.split(r"[.\[]", refusal.violations[0].field)[0], error)
    if is_grant and error in _AS_GRANT:
        status, error = 400, "invalid_grant"
    headers = dict(NO_STORE)
    if status == _UNAUTHORIZED:
        headers["www-authenticate"] = f'Bearer error="{error}"'
    if error == "temporarily_unavailable":
        headers["retry-after"] = str(refusal.hints.retry_seconds or _RETRY_SECONDS)
    description = f"{refusal.message}; {refusal.hints.next}" if refusal.hints.next else refusal.message
    body = {
        "error": error,
        "error_description": _UNPRINTABLE.sub("'", description),
        "reason": refusal.reason.value,
        **refusal.hints.metadata(),
    }
    return JSONResponse(body, status, headers)
