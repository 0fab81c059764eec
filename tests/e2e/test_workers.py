"""Several workers on one SQLite file: one truth, whichever of them is asked, and whoever of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from broker.model.errors import Refusal
from broker.model.grant import Grant
from broker.model.task import TaskState
from broker.sandbox.broker import AGENT, RESOURCE, TOOL, Broker, prepare, running
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from broker.store.verification import verify
from tests.support.waiting import wait_for
from tests.support.workers import connections_of, has_turn, workers_of

GRANTS = [Grant(TOOL)]
WORKERS = 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of two workers, whose ledger verifies in the end."""
    folder = tmp_path_factory.mktemp("workers")
    with running(folder, workers=WORKERS) as broker:
        yield broker
    assert verify(f"sqlite:///{folder / 'broker.db'}").ok


def agent_of(broker: Broker) -> SyncClient:
    return SyncClient(broker.address, broker.svids / "researcher", timeout=60)


def accepts(verifier: Verifier, token: str) -> bool:
    try:
        verifier.check(token, TOOL, {}, Presentation(spiffe_id=AGENT))
    except Refusal:
        return False
    return True


@contextmanager
def load(broker: Broker) -> Iterator[list[str]]:
    """Issue credentials over many connections for the time of a block, and let no call fail; list their leases."""
    over, issued, failures = threading.Event(), list[str](), list[Exception]()
    task_id = broker.begin_task()

    def issue() -> None:
        try:
            while not over.is_set():
                with agent_of(broker) as agent:
                    issued.extend(agent.issue(task_id, RESOURCE, GRANTS).lease_id for _ in range(5))
        except Exception as error:  # noqa: BLE001 (whatever it is, the test fails by it)
            failures.append(error)

    threads = [threading.Thread(target=issue) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(issued) > 20 or bool(failures))
        yield issued
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert len(set(issued)) == len(issued)


def stop_one_that_writes(broker: Broker) -> int:
    """Stop a worker in the midst of its turn; return its process. On a busy machine it may be replaced before."""
    while True:
        pid = max(workers_of(broker))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            if has_turn(pid):
                return pid
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)


def test_what_one_worker_records_holds_at_the_others(broker: Broker) -> None:
    task_id = broker.begin_task()
    with ExitStack() as open_at_once:
        agents: list[SyncClient] = []
        while not agents or min(connections_of(pid, broker) for pid in workers_of(broker)) < 2:
            agents.append(open_at_once.enter_context(agent_of(broker)))
            agents[-1].issue(task_id, RESOURCE, GRANTS)
        endpoint = Endpoint.of(broker.address, broker.svids / "verifier")
        verifiers = [open_at_once.enter_context(watching(Verifier(RESOURCE), endpoint)) for _ in range(8)]
        tokens = [agent.issue(task_id, RESOURCE, GRANTS).token.reveal() for agent in agents]
        assert all(accepts(verifier, token) for verifier in verifiers for token in tokens)
        with SyncClient(broker.address, broker.svids / "orchestrator") as orchestrator:
            orchestrator.end_task(task_id, TaskState.COMPLETED, barrier=True)
        assert not any(accepts(verifier, token) for verifier in verifiers for token in tokens)
        for agent in agents:
            with pytest.raises(Refusal, match="TASK_NOT_ACTIVE"):
                agent.issue(task_id, RESOURCE, GRANTS)


def test_a_worker_that_is_killed_is_replaced_and_no_call_is_lost(broker: Broker) -> None:
    with load(broker) as issued:
        killed = min(workers_of(broker))
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(workers_of(broker) - {killed}) == WORKERS)
        so_far = len(issued)
        wait_for(lambda: len(issued) > so_far + 50)


def test_a_worker_that_is_stopped_while_it_writes_holds_nobody_up(broker: Broker) -> None:
    with load(broker) as issued:
        stopped = stop_one_that_writes(broker)
        wait_for(lambda: len(workers_of(broker) - {stopped}) == WORKERS)
        so_far = len(issued)
        wait_for(lambda: len(issued) > so_far + 50)


def test_nobody_else_has_the_file_or_the_port(broker: Broker, tmp_path: Path) -> None:
    own = broker.svids.parent
    assert f"process {broker.pid} writes to it" in _refused(own, port=0)
    assert "another process listens there" in _refused(tmp_path, port=int(broker.address.rpartition(":")[2]))
    assert "another process listens there" in _refused(tmp_path, int(broker.address.rpartition(":")[2]), "--workers=2")


def test_without_their_parent_workers_end_and_make_room(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as broker:
        workers = workers_of(broker)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    with running(tmp_path, workers=2) as broker:
        assert len(broker.issue(1)) == 1


def _refused(folder: Path, port: int, *options: str) -> str:
    """Return why a broker on a deployment does not start."""
    configuration = prepare(folder).configuration
    other = configuration.with_name("other.toml")
    other.write_text(configuration.read_text().replace("127.0.0.1:8443", f"127.0.0.1:{port}"))
    command = [sys.executable, "-m", "broker", "serve", "--config", str(other), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    return done.stderr
