"""The runbook for a restored backup, step by step, with real processes and a real verifier."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare, running
from broker.sandbox.problem import SandboxProblem
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store.verification import verify

HOLDER = Presentation(spiffe_id=AGENT)


def credbroker(*arguments: object, broker: Broker | None = None, svid: str = "operator") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "broker", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=None if broker is None else broker.environment(svid) | {"CREDBROKER_TENANT": "acme"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def checkpoint(broker: Broker) -> dict[str, str]:
    found: dict[str, str] = json.loads(credbroker("ledger", "checkpoint", "-o", "json", broker=broker, svid="auditor"))
    return found


def rename_ledger(folder: Path, origin: str) -> Path:
    configuration = prepare(folder).configuration
    configured = re.sub(r"^origin = .*\n|^\[ledger\]\n", "", configuration.read_text(), flags=re.MULTILINE)
    configuration.write_text(f'{configured}\n[ledger]\norigin = "{origin}"\n')
    return configuration


@dataclass
class Lost:
    """A broker's folder after an older backup was put back, with what the lost database knew."""

    folder: Path
    before: Sequence[str]
    since: Sequence[str]
    task: str
    kept: dict[str, str]
    newest: dict[str, str]

    @property
    def database(self) -> Path:
        return self.folder / "broker.db"


@pytest.fixture
def lost(tmp_path: Path) -> Lost:
    database = tmp_path / "broker.db"
    with running(tmp_path) as broker:
        before, kept = broker.issue(2), checkpoint(broker)
    backup = database.read_bytes()
    with running(tmp_path) as broker:
        since, task = broker.issue(20), broker.begin_task()
        newest = checkpoint(broker)
    for name in ("broker.db", "broker.db-wal", "broker.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    database.write_bytes(backup)
    return Lost(tmp_path, before, since, task, kept, newest)


async def test_the_way_on_after_a_restored_backup_is_as_the_page_says(lost: Lost) -> None:
    with pytest.raises(SandboxProblem, match="the database is behind"), running(lost.folder):
        pass
    configuration = rename_ledger(lost.folder, "broker.example.org/ledger.2")
    note = lost.folder / "newest.note"
    note.write_text(lost.newest["note"])
    command = ("ledger", "adopt", "--config", configuration, "--reason", "restored", "--checkpoint", note)
    adopted = json.loads(credbroker(*command, "--yes", "-o", "json"))
    assert adopted["first_index"] > int(lost.newest["size"]) + 999_000
    with running(lost.folder) as broker:
        async with watching(Verifier(RESOURCE), Endpoint.of(broker.address, broker.svids / "verifier")) as verifier:
            for token in (*lost.before, *lost.since):
                with pytest.raises(Refusal) as refused:
                    verifier.check(token, TOOL, {}, HOLDER)
                assert refused.value.reason in (Reason.TOKEN_INVALID, Reason.TOKEN_REVOKED)
            verifier.check(lift_and_issue(broker, lost), TOOL, {}, HOLDER)
    with running(lost.folder) as broker:
        assert len(broker.issue(3)) == 3
    assert verify(str(lost.database), adopted["vkey"], kept=lost.kept["note"]).ok
    assert not verify(str(lost.database), adopted["vkey"], kept=lost.newest["note"]).ok


def lift_and_issue(broker: Broker, lost: Lost) -> str:
    """Find everything locked and the lost task gone, lift the lock, and get a credential."""
    with SyncClient(broker.address, broker.svids / "researcher", timeout=5) as agent:
        with pytest.raises(Refusal) as refused:
            agent.issue(lost.task, RESOURCE, [Grant(TOOL)])
        assert refused.value.reason is Reason.TASK_NOT_FOUND
        task = broker.begin_task()
        with pytest.raises(Refusal) as refused:
            agent.issue(task, RESOURCE, [Grant(TOOL)])
        assert refused.value.reason is Reason.LOCKED
        credbroker("svid", "issue", lost.folder / "svids", "root", "--id", "spiffe://example.org/operator/root")
        (lock,) = json.loads(credbroker("lock", "list", "-o", "json", broker=broker, svid="root"))["locks"]
        credbroker("lock", "delete", lock["lock_id"], broker=broker, svid="root")
        return agent.issue(task, RESOURCE, [Grant(TOOL)]).token.reveal()
