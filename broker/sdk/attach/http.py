"""What the `Auth` of httpx and of httpx2 have in common: the flow of one request, whichever of them sends it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, MutableMapping
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from broker.sdk.client.credential import Credential

_UNAUTHORIZED = 401
_NONCE = "dpop-nonce"
_PORTS = {"http": 80, "https": 443}

Current = Callable[[], Credential]
"""Returns the credential to use now."""


class ClientRequest(Protocol):
    """A request of either package."""

    method: str

    @property
    def url(self) -> object:
        """Return its URL, whose text is absolute."""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Return its headers."""


class ClientResponse(Protocol):
    """A response of either package."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Return its headers."""


AnyRequest = TypeVar("AnyRequest", bound=ClientRequest)
AnyResponse = TypeVar("AnyResponse", bound=ClientResponse)


def current_of(credential: Credential | Current) -> Current:
    """Return what gives a credential."""
    return (lambda: credential) if isinstance(credential, Credential) else credential


def flow(current: Current, at: str, request: AnyRequest) -> Generator[AnyRequest, AnyResponse, None]:
    """Send a request with the credential, if it goes to the origin `at`, or else to that of the credential's resource.

    It is sent once more if the server wants its nonce in the proof (RFC 9449 section 9), or if it refused a token that
    has been renewed since.
    """
    credential = current()
    url = str(request.url)
    if _origin(url) != _origin(at or credential.resource):
        yield request  # no credential goes to anybody else
        return
    sent = _attach(credential, request, url)
    response = yield request
    nonce = response.headers.get(_NONCE, "")
    if response.status_code == _UNAUTHORIZED and (nonce or current().token.reveal() != sent):
        _attach(current(), request, url, nonce)
        yield request


def _attach(credential: Credential, request: ClientRequest, url: str, nonce: str = "") -> str:
    """Attach a credential, and return its token. A proof is for the server as its clients know it, by its resource."""
    token = credential.token.reveal()
    resource, sent_to = urlsplit(credential.resource), urlsplit(url)
    known = sent_to._replace(scheme=resource.scheme, netloc=resource.netloc).geturl()
    for name, value in credential.headers(request.method, known, nonce).items():
        request.headers[name] = value
    return token


def _origin(url: str) -> tuple[str, str, int | None]:
    """Return the origin of a URL (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme)
