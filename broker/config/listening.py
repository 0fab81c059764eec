"""Whether an address can be listened on, before anything is opened there: gRPC would only say "failed to bind"."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from types import MappingProxyType

from broker.config.settings import ListenSettings
from broker.model.errors import ListenProblem

_REMEDIES = MappingProxyType(
    {
        errno.EADDRINUSE: "another process listens there: stop it, or choose another port",
        errno.EACCES: "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): choose another port",
        errno.EPERM: "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): choose another port",
        errno.EADDRNOTAVAIL: "this machine has no such address: 0.0.0.0 or [::] are all of its own",
    }
)


def doors_of(settings: ListenSettings) -> Iterator[tuple[str, str]]:
    """List the addresses, each with its key."""
    for key in ("address", "jwt_address", "http_address"):
        address = getattr(settings, key)
        if address is not None:
            yield f"listen.{key}", address


def check_all_free(settings: ListenSettings) -> None:
    """See that each address can be listened on.

    Raises:
        ListenProblem: one cannot.
    """
    for key, address in doors_of(settings):
        check_free(key, address)


def check_free(key: str, address: str) -> None:
    """See that an address can be listened on.

    Raises:
        ListenProblem: it cannot.
    """
    host, _, port = address.rpartition(":")
    try:
        places = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenProblem(
            f"{key} {address}: there is no host `{host}`: {error.strerror}; name an address of this machine"
        ) from error
    failures = [failure for family, *_, place in places if (failure := _try(family, place)) is not None]
    if len(failures) == len(places):
        first = failures[0]
        remedy = _REMEDIES.get(first.errno or 0, f"see that {key} is an address of this machine")
        raise ListenProblem(f"{key} {address}: {first.strerror}; {remedy}") from first


def _try(family: int, place: object) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the listeners do
            tried.bind(place)  # type: ignore[arg-type]  # whatever getaddrinfo has given for this family
    except OSError as error:
        return error
    return None
