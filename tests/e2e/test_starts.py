"""Wrongly set up, a broker does not start, and says why."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from broker.identity.spiffe import parse_spiffe_id
from broker.keystore.folder import create_keys
from broker.sandbox import authority
from broker.sandbox.broker import prepare, running
from broker.store.verification import verify
from broker.system import system_clock

BROKER, DAY = "spiffe://example.org/broker", timedelta(days=1)


def break_nothing(_folder: Path) -> None:
    pass


def lose_bundle(folder: Path) -> None:
    (folder / "bundle" / "tools.toml").unlink()


def break_policy(folder: Path) -> None:
    next((folder / "bundle" / "policies").glob("*.cedar")).write_text('@id("x")\npermit (principal, action);\n')


def lose_keys(folder: Path) -> None:
    (folder / "keys" / "checkpoint.pem").unlink()


def open_keys_to_all(folder: Path) -> None:
    next((folder / "keys").glob("token-*.pem")).chmod(0o644)


def lose_svid(folder: Path) -> None:
    (folder / "svids" / "broker" / "key.pem").unlink()


def swap_svid_key(folder: Path) -> None:
    svids = folder / "svids"
    (svids / "broker" / "key.pem").write_bytes((svids / "writer" / "key.pem").read_bytes())


def expire_svid(folder: Path) -> None:
    authority.issue(folder / "svids", "broker", parse_spiffe_id(BROKER), (), timedelta(hours=1), system_clock() - DAY)


def issue_svid_for_later(folder: Path) -> None:
    authority.issue(folder / "svids", "broker", parse_spiffe_id(BROKER), (), DAY, system_clock() + timedelta(hours=1))


def listen_elsewhere(folder: Path) -> None:
    configuration = folder / "broker.toml"
    configuration.write_text(configuration.read_text().replace("127.0.0.1:8443", "192.0.2.1:8443"))


def lose_postgresql(folder: Path) -> None:
    configuration = folder / "broker.toml"
    lost = "postgresql://u:s3cret@127.0.0.1:1/broker"
    configuration.write_text(configuration.read_text().replace("broker.db", lost))


def break_configuration(folder: Path) -> None:
    with (folder / "broker.toml").open("a") as file:
        file.write("\n[limits.more]\nlifetyme = 3\n")


def break_database(folder: Path) -> None:
    (folder / "broker.db").write_bytes(b"this is no database" * 1_000)


def forbid_database(folder: Path) -> None:
    (folder / "broker.db").mkdir()


def lead_nowhere(folder: Path) -> None:
    configuration = folder / "broker.toml"
    configuration.write_text(configuration.read_text().replace('"broker.db"', '"none/broker.db"'))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lose_bundle, "tools.toml"),
        (break_policy, ".cedar"),
        (lose_keys, "checkpoint.pem"),
        (open_keys_to_all, "chmod 600"),
        (lose_svid, "key.pem"),
        (swap_svid_key, "key.pem"),
        (expire_svid, "svid.pem: expired at"),
        (issue_svid_for_later, "svid.pem: is good from"),
        (listen_elsewhere, "listen.address 192.0.2.1:8443: Cannot assign requested address; this machine has no such"),
        (lose_postgresql, "database.url postgresql://u:***@127.0.0.1:1/broker: the database says: connection"),
        (break_configuration, "limits"),
        (break_database, "database"),
        (forbid_database, "is a folder"),
        (lead_nowhere, "there is no folder"),
    ],
)
def test_wrongly_set_up_it_does_not_start_and_says_why(harm: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    deployment = prepare(tmp_path)
    harm(tmp_path)
    done = serve(deployment.configuration)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "PRIVATE" not in done.stderr
    assert "s3cret" not in done.stderr


def test_a_second_broker_on_one_sqlite_file_does_not_start(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "broker.db").symlink_to(tmp_path / "broker.db")
        configured = (tmp_path / "broker.toml").read_text().replace("127.0.0.1:8443", "127.0.0.1:0")
        second = tmp_path / "second.toml"
        for name in ("broker.db", "./bundle/../broker.db", "elsewhere/broker.db"):
            second.write_text(configured.replace('"broker.db"', f'"{name}"'))
            done = serve(second)
            assert done.returncode == 1
            assert f"{tmp_path / 'broker.db'}: process {broker.pid} writes to it" in done.stderr
        upgrading = [sys.executable, "-m", "broker", "db", "upgrade", "--database", str(tmp_path / "broker.db")]
        done = subprocess.run(upgrading, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert f"process {broker.pid} writes to it" in done.stderr
        assert broker.begin_task()
        assert verify(f"sqlite:///{tmp_path / 'broker.db'}").ok
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
    with running(tmp_path) as broker:
        assert broker.begin_task()


def test_a_foreign_checkpoint_key_is_told_and_the_ledger_stays_as_it_is(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        broker.begin_task()
    key = tmp_path / "keys" / "checkpoint.pem"
    ours = key.read_bytes()
    create_keys(tmp_path / "other", system_clock())
    key.write_bytes((tmp_path / "other" / "checkpoint.pem").read_bytes())
    done = serve(prepare(tmp_path).configuration)
    assert done.returncode == 1
    assert done.stderr.count("broker.example.org/ledger+") == 2, "both keys are named"
    assert "checkpoint.pem" in done.stderr
    assert verify(f"sqlite:///{tmp_path / 'broker.db'}").ok
    key.write_bytes(ours)
    with running(tmp_path) as broker:
        broker.begin_task()
    assert verify(f"sqlite:///{tmp_path / 'broker.db'}").ok


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    deployment = prepare(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        configured = deployment.configuration.read_text()
        deployment.configuration.write_text(configured.replace("127.0.0.1:8443", address))
        done = serve(deployment.configuration)
    assert done.returncode == 1
    assert f"listen.address {address}: Address already in use; another process listens there" in done.stderr
    assert "Traceback" not in done.stderr


def serve(configuration: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker", "serve", "--config", str(configuration)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
