"""The application: which path is which endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response

from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.web.errors import NO_STORE
from broker.web.introspection_endpoint import IntrospectionEndpoint
from broker.web.metadata import AUTHORIZE, INTROSPECT, JWKS, OAUTH, OPENID, REVOKE, TOKEN, metadata, metadata_paths
from broker.web.pipeline import HttpPipeline
from broker.web.revocation_endpoint import RevocationEndpoint
from broker.web.token_endpoint import TokenEndpoint

_PUBLIC: Mapping[str, str] = MappingProxyType(
    {
        "cache-control": "public, max-age=300",
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "*",
    }
)


def application(pipeline: HttpPipeline, desk: Desk, keys: Callable[[], KeySet]) -> Starlette:
    """Make the application of an issuer, whose URL may have a path.

    Raises:
        NoEntrance: an endpoint has no line among the entrances.
    """
    below = urlsplit(desk.issuer).path
    about = _public(lambda: JSONResponse(metadata(desk.issuer)))
    key_set = _public(lambda: Response(keys().to_jwks(), media_type="application/jwk-set+json"))
    reads = ("GET", "OPTIONS")
    app = Starlette(
        routes=[
            *(
                pipeline.document(OPENID if OPENID in at else OAUTH, at, reads, about)
                for at in metadata_paths(desk.issuer)
            ),
            pipeline.document(JWKS, below + JWKS, reads, key_set),
            pipeline.endpoint(TOKEN, below + TOKEN, TokenEndpoint(desk)),
            pipeline.endpoint(INTROSPECT, below + INTROSPECT, IntrospectionEndpoint(desk, keys)),
            pipeline.open_endpoint(REVOKE, below + REVOKE, RevocationEndpoint(desk, keys).answer),
            pipeline.document(AUTHORIZE, below + AUTHORIZE, ("GET", "POST"), _unauthorized),
        ],
    )
    app.router.redirect_slashes = False  # it would send a client, and what it carries, to any host that it names
    return app


def _public(document: Callable[[], Response]) -> Callable[[str], Response]:
    """Show a document to pages of whatever origin in a browser, too."""

    def answer(method: str) -> Response:
        response = Response(status_code=204) if method == "OPTIONS" else document()
        response.headers.update(_PUBLIC)
        return response

    return answer


def _unauthorized(_method: str) -> Response:
    """Refuse: no person has anything to say here."""
    problem = {
        "error": "unauthorized_client",
        "error_description": "this server issues to workloads alone: use the token endpoint",
    }
    return JSONResponse(problem, 400, NO_STORE)
