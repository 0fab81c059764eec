"""Every endpoint's way in and out: read, authenticate, admit, do, map a refusal to its status. None is beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.access.authentication import Authentication
from broker.access.entrances import Entrance, entrance_of, open_entrance
from broker.access.lanes import Lanes
from broker.access.presented import PresentedIdentity, proof_of_key
from broker.access.refusals import Refusals
from broker.access.summary import RequestSummary
from broker.model.principal import Principal
from broker.web.errors import error_response
from broker.web.forms import Form, read_form


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


class FormEndpoint(Protocol):
    """What is an endpoint's own: hooks that the pipeline calls in order."""

    def present(self, headers: Headers, form: Form) -> PresentedIdentity:
        """Return what proves who calls; a proof of possession is added to it."""

    async def answer(self, caller: Principal, form: Form) -> Response:
        """Answer a caller that may call."""

    def summary(self, form: Form) -> RequestSummary:
        """Return what a refused request was about."""

    def is_grant(self, form: Form) -> bool:
        """Report whether the identity is a grant, not the client's authentication."""


@dataclass(frozen=True, slots=True)
class HttpPipeline:
    """What every request passes. `issuer` is the URL below which the endpoints are."""

    issuer: str
    authentication: Authentication
    refusals: Refusals
    lanes: Lanes

    def endpoint(self, path: str, at: str, endpoint: FormEndpoint) -> Route:
        """Serve an endpoint, whose line among the entrances is that of a path, to callers who prove who they are.

        Raises:
            NoEntrance: it has no line.
        """
        entrance, url = entrance_of(path), self.issuer + path
        lane = self.lanes.of(entrance)

        async def answer(request: Request) -> Response:
            form, principal = Form({}), None
            try:
                lane.check()
                form = await read_form(request)
                identity = endpoint.present(request.headers, form)
                proof = proof_of_key(request.headers.getlist("dpop"), url)
                identity = replace(identity, proof=proof, address=partial(_address, request))
                principal = await self.authentication.authenticate(identity, prove_key=entrance.proves_key)
                entrance.admit(principal)
                with lane:
                    return await endpoint.answer(principal, form)
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self.refusals.settle(entrance, principal, endpoint.summary(form), error)
            return error_response(refusal, is_grant=endpoint.is_grant(form))

        return Route(at, answer, methods=["POST"])

    def open_endpoint(self, path: str, at: str, function: Callable[[Form], Awaitable[Response]]) -> Route:
        """Serve an endpoint to anybody.

        Raises:
            NoEntrance: it has no line, or one by which it is not for anybody.
        """

        async def answer(request: Request) -> Response:
            return await function(await read_form(request))

        return self._open(open_entrance(path), at, ["POST"], answer)

    def document(self, path: str, at: str, methods: Sequence[str], document: Callable[[str], Response]) -> Route:
        """Serve to anybody what is the same for everybody, by HTTP method.

        Raises:
            NoEntrance: as `open_endpoint`.
        """

        async def answer(request: Request) -> Response:
            return document(request.method)

        return self._open(open_entrance(path), at, methods, answer)

    def _open(
        self, entrance: Entrance, at: str, methods: Sequence[str], function: Callable[[Request], Awaitable[Response]]
    ) -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await function(request)
            except Exception as error:  # noqa: BLE001 (mapped to a status, which is this function's work)
                refusal = await self.refusals.settle(entrance, None, RequestSummary(), error)
            return error_response(refusal)

        return Route(at, answer, methods=list(methods))
