"""The application: which path is which endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.access.authentication import Authentication
from broker.credential.keys import KeySet
from broker.model.errors import Reason, Refusal
from broker.web.errors import oauth_error
from broker.web.introspection_endpoint import IntrospectionEndpoint, RevocationEndpoint
from broker.web.metadata import AUTHORIZE, INTROSPECT, JWKS, REVOKE, TOKEN, metadata, metadata_paths
from broker.web.token_endpoint import TokenEndpoint

_PUBLIC: Mapping[str, str] = MappingProxyType(
    {
        "cache-control": "public, max-age=300",
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "*",
    }
)


def application(callers: Authentication, keys: Callable[[], KeySet]) -> Starlette:
    """Make the application of an issuer, whose URL may have a path."""
    issuer = callers.desk.issuer
    below = urlsplit(issuer).path
    token = TokenEndpoint(callers, TOKEN)
    introspection, revocation = IntrospectionEndpoint(callers, keys, INTROSPECT), RevocationEndpoint(callers, keys)

    def about() -> Response:
        return JSONResponse(metadata(issuer))

    def key_set() -> Response:
        return Response(keys().to_jwks(), media_type="application/jwk-set+json")

    found = Starlette(
        routes=[
            *(_public(path, about) for path in metadata_paths(issuer)),
            _public(below + JWKS, key_set),
            Route(below + TOKEN, token.answer, methods=["POST"]),
            Route(below + INTROSPECT, introspection.answer, methods=["POST"]),
            Route(below + REVOKE, revocation.answer, methods=["POST"]),
            Route(below + AUTHORIZE, _authorize, methods=["GET", "POST"]),
        ],
        exception_handlers={Exception: _fail},
    )
    found.router.redirect_slashes = False  # it would send a client, and what it carries, to any host that it names
    return found


def _public(path: str, document: Callable[[], Response]) -> Route:
    """Serve a document to everybody, pages of whatever origin in a browser too: it is the same for all of them."""

    async def answer(request: Request) -> Response:
        response = Response(status_code=204) if request.method == "OPTIONS" else document()
        response.headers.update(_PUBLIC)
        return response

    return Route(path, answer, methods=["GET", "OPTIONS"])


async def _authorize(_request: Request) -> Response:
    """Refuse: no person has anything to say here."""
    problem = {
        "error": "unauthorized_client",
        "error_description": "this server issues to workloads alone: use the token endpoint",
    }
    return JSONResponse(problem, 400, {"cache-control": "no-store"})


async def _fail(_request: Request, error: Exception) -> Response:
    structlog.get_logger("http").error("http.failed", exc_info=error)
    told = oauth_error(Refusal(Reason.INTERNAL, "the broker has failed; its log says how"))
    return JSONResponse(told.body, told.status)
