"""Commands that know several brokers: one that is not there is passed over, also for what must not be done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.cli import cli
from broker.cli.private import AGENT_VARIABLES
from broker.sandbox.broker import Broker, running
from broker.sandbox.ports import free_port

_LOCK = ("lock", "create", "--agent", "spiffe://example.org/agent/writer", "--reason", "a drill", "--lifetime", "1h")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running(tmp_path_factory.mktemp("broker")) as found:
        yield found


def typed(broker: Broker, address: str, *arguments: str, svid: str = "operator") -> Result:
    environment = dict.fromkeys(AGENT_VARIABLES) | broker.environment(svid) | {"CREDBROKER_TENANT": "acme"}
    return CliRunner().invoke(cli, [*arguments, "-o", "json", "--address", address], env=environment)


def done(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.parametrize("run", range(4))  # each begins anywhere
def test_a_command_goes_to_the_broker_that_is_there(broker: Broker, run: int) -> None:
    addresses = [f"localhost:{free_port()}", broker.address, f"localhost:{free_port()}"]
    before = len(done(typed(broker, broker.address, "lock", "list"))["locks"])
    lock = done(typed(broker, ",".join(addresses), *_LOCK))
    locks = done(typed(broker, ",".join(addresses[run % 2 :]), "lock", "list"))["locks"]
    assert [found["lock_id"] for found in locks].count(lock["lock_id"]) == 1
    assert len(locks) == before + 1  # it was set once


def test_if_none_is_there_each_is_named(broker: Broker) -> None:
    gone = [f"localhost:{free_port()}" for _ in range(2)]
    result = typed(broker, ",".join(gone), "lock", "list", "--timeout", "1s")
    assert result.exit_code != 0
    assert all(f"nothing can be reached at {address}" in result.stderr for address in gone)


def test_an_address_that_is_none_is_refused_before_anything_is_sent(broker: Broker) -> None:
    result = typed(broker, f"{broker.address},", *_LOCK)
    assert result.exit_code != 0
    assert "one of the brokers' addresses is empty" in result.stderr
