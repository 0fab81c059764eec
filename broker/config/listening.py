"""Whether an address can be listened on, before anything is opened there: gRPC would only say "failed to bind"."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
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
    with ExitStack() as bound:
        _bind(bound, key, address)


@contextmanager
def held(settings: ListenSettings) -> Iterator[ListenSettings]:
    """Hold all addresses for a block, so that processes of ours may listen there together, and nobody else.

    Yields the settings with the ports that are held, where any would do.

    Raises:
        ListenProblem: an address cannot be listened on.
    """
    with ExitStack() as bound:
        own = {key.removeprefix("listen."): _hold(bound, key, address) for key, address in doors_of(settings)}
        yield replace(
            settings,
            address=own["address"],
            jwt_address=own.get("jwt_address"),
            http_address=own.get("http_address"),
        )


def _hold(bound: ExitStack, key: str, address: str) -> str:
    """Bind an address alone, and only then let others of this user bind it who ask to share it, as our workers do."""
    sockets = _bind(bound, key, address)
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # or whoever has it could listen where we only bind
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return f"{address.rpartition(':')[0]}:{sockets[0].getsockname()[1]}"


def _bind(bound: ExitStack, key: str, address: str) -> list[socket.socket]:
    """Bind the address, in each family in which there is such a one; in one at least."""
    host, _, port = address.rpartition(":")
    try:
        places = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenProblem(
            f"{key} {address}: there is no host `{host}`: {error.strerror}; name an address of this machine"
        ) from error
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, *_, place in places:
        fresh = bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the listeners do
        same_port = (place[0], sockets[0].getsockname()[1], *place[2:]) if sockets else place
        try:
            fresh.bind(same_port)
        except OSError as error:
            failures.append(error)
        else:
            sockets.append(fresh)
    if not sockets:
        first = failures[0]
        remedy = _REMEDIES.get(first.errno or 0, f"see that {key} is an address of this machine")
        raise ListenProblem(f"{key} {address}: {first.strerror}; {remedy}") from first
    return sockets
