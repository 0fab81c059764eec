"""Addresses are held for workers of ours, who may listen there together, and for nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from broker.config.listening import check_all_free, held
from broker.config.settings import ListenSettings
from broker.model.errors import ListenProblem

HERE = "127.0.0.1"


def listener(port: int, *options: int, host: str = HERE) -> socket.socket:
    """Listen, with options of a socket."""
    fresh = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for option in options:
            fresh.setsockopt(socket.SOL_SOCKET, option, 1)
        fresh.bind((host, port))
        fresh.listen()
    except OSError:
        fresh.close()
        raise
    return fresh


def port_of(address: str | None) -> int:
    assert address is not None
    return int(address.rpartition(":")[2])


@pytest.fixture
def settings() -> Iterator[ListenSettings]:
    """Addresses that are held, at ports that were free."""
    with held(ListenSettings(address=f"{HERE}:0", http_address="localhost:0")) as settings:
        yield settings


def test_those_who_share_listen_together_and_are_served_by_turns(settings: ListenSettings) -> None:
    for address in (settings.address, settings.http_address):
        port = port_of(address)
        with ExitStack() as listening:
            for _ in range(2):
                shared = listener(port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
                listening.enter_context(closing(shared))
            with closing(socket.create_connection((HERE, port))):
                pass


@pytest.mark.parametrize("host", [HERE, "0.0.0.0"])
def test_nobody_else_listens_there_whether_a_worker_does_or_not(settings: ListenSettings, host: str) -> None:
    port = port_of(settings.address)
    for options in ((), (socket.SO_REUSEADDR,)):
        with pytest.raises(OSError, match="Address already in use"):
            listener(port, *options, host=host)
    with closing(listener(port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
        for options in ((), (socket.SO_REUSEADDR,)):
            with pytest.raises(OSError, match="Address already in use"):
                listener(port, *options, host=host)
    with pytest.raises(ListenProblem, match="another process listens there"):
        check_all_free(settings)
    with pytest.raises(ListenProblem, match="another process listens there"), held(settings):
        pass


def test_an_address_that_others_share_is_not_held() -> None:
    with closing(listener(0, socket.SO_REUSEPORT)) as other:
        taken = f"{HERE}:{other.getsockname()[1]}"
        with pytest.raises(ListenProblem, match=r"listen\.address 127\.0\.0\.1"), held(ListenSettings(address=taken)):
            pass


def test_a_port_is_free_again_afterwards() -> None:
    with held(ListenSettings(address=f"{HERE}:0")) as settings:
        assert settings.jwt_address is None
        assert settings.http_address is None
    check_all_free(settings)
