"""A workload of a partner's trust domain calls the broker over mutual TLS, by the SDK and by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.sandbox.broker import prepare
from broker.sandbox.certificates import Authority, issue_svid
from broker.sdk.client.client import Client
from broker.sdk.connect.identity import WorkloadSocket
from broker.system import system_clock
from tests.support.facade import NOTES, Facade, opened
from tests.support.fakes import DAY, authority, write_svid
from tests.support.workload_api_server import (
    at_a_socket,
    der,
    jwt_response,
    x509_response,
    x509_svid,
)

PARTNER = "spiffe://partner.example/agent/a"
GRANTS = [Grant("search_notes")]
MORE = """
[identity.bundles]
"partner.example" = "partner.pem"

[[identity.rule]]
match = "spiffe://partner.example/agent/*"
tenant = "acme"
groups = ["agents"]

"""


@pytest.fixture(scope="module")
def partner() -> Authority:
    return authority("partner.example")


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory, partner: Authority) -> Iterator[Facade]:
    folder = tmp_path_factory.mktemp("facade")
    prepare(folder)
    (folder / "partner.pem").write_bytes(partner.cert_pem)
    groups = folder / "bundle" / "groups.toml"
    groups.write_text(
        groups.read_text().replace(
            '"spiffe://example.org/agent/researcher"]', f'"{PARTNER}", "spiffe://example.org/agent/researcher"]'
        )
    )
    with opened(folder, MORE) as found:
        yield found


@contextmanager
def workload_api(partner: Authority, federated: Mapping[str, bytes]) -> Iterator[str]:
    """Serve the partner's workload its SVID, and these bundles."""
    svid = issue_svid(partner, parse_spiffe_id(PARTNER), [], DAY, system_clock())
    with at_a_socket() as server:
        server.start()
        message = x509_response(x509_svid(PARTNER, svid, partner.cert_pem), federated=federated)
        server.tell(x509=message, jwt=jwt_response({}))
        yield server.address


def issue(facade: Facade, variables: Mapping[str, str], *, task_id: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("CREDBROKER_")}
    command = ["credential", "issue", "--task", task_id, "--tool", f"{NOTES}#search_notes", "--timeout", "20s"]
    return subprocess.run(
        [sys.executable, "-m", "broker", *command, "--out", str(facade.broker.svids / "token")],
        env={**others, "CREDBROKER_ADDRESS": facade.broker.address, **variables},
        capture_output=True,
        check=False,
        text=True,
    )


async def test_by_the_workload_api_it_says_whose_broker_it_calls(facade: Facade, partner: Authority) -> None:
    task_id = facade.begin(PARTNER)
    with workload_api(partner, {"spiffe://example.org": der(facade.roots)}) as socket:
        async with Client(facade.broker.address, identity=WorkloadSocket(socket, "example.org")) as client:
            assert (await client.issue(task_id, NOTES, GRANTS)).lease_id
        variables = {"SPIFFE_ENDPOINT_SOCKET": socket, "CREDBROKER_TRUST_DOMAIN": "example.org"}
        done = issue(facade, variables, task_id=task_id)
        assert done.returncode == 0, done.stderr
        async with Client(facade.broker.address, identity=WorkloadSocket(socket)) as client:
            with pytest.raises(Refusal) as refused:
                await client.issue(task_id, NOTES, GRANTS)
        assert refused.value.reason is Reason.UNAVAILABLE
        assert "(spiffe://example.org/broker) does not lead to the roots" in refused.value.message
        assert "CREDBROKER_TRUST_DOMAIN" in refused.value.hints.next


async def test_roots_that_the_workload_api_does_not_give_are_named(facade: Facade, partner: Authority) -> None:
    with workload_api(partner, {}) as socket:
        async with Client(facade.broker.address, identity=WorkloadSocket(socket, "example.org")) as client:
            with pytest.raises(Refusal) as refused:
                await client.issue("t-1", NOTES, GRANTS)
    assert refused.value.reason is Reason.IDENTITY_MISSING
    assert "`example.org`" in refused.value.message
    assert "-federatesWith spiffe://example.org" in refused.value.hints.next


async def test_from_files_it_names_the_brokers_roots(
    facade: Facade, partner: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = facade.begin(PARTNER)
    folder = write_svid(tmp_path / "svid", partner, PARTNER)
    (tmp_path / "broker-roots.pem").write_bytes(facade.roots)
    variables = {"CREDBROKER_SVID_DIR": str(folder), "CREDBROKER_CA_FILE": str(tmp_path / "broker-roots.pem")}
    done = issue(facade, variables, task_id=task_id)
    assert done.returncode == 0, done.stderr
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with Client(facade.broker.address) as client:
        assert (await client.issue(task_id, NOTES, GRANTS)).lease_id
