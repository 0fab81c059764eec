"""Workers of a broker, seen from outside."""

from __future__ import annotations

import re
from pathlib import Path

from broker.sandbox.broker import Broker

_ESTABLISHED = "01"
_TURN = 1  # the byte of the lock that whoever writes holds


def workers_of(broker: Broker) -> set[int]:
    """List the processes whose parent a broker's process is."""
    return {int(pid) for pid in Path(f"/proc/{broker.pid}/task/{broker.pid}/children").read_text().split()}


def connections_of(pid: int, broker: Broker) -> int:
    """Count the connections to a broker that one of its workers has."""
    port, own = int(broker.address.rpartition(":")[2]), set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(link.readlink()))
        except FileNotFoundError:
            continue
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    return sum(
        int(local.rpartition(":")[2], 16) == port and state == _ESTABLISHED and f"socket:[{rest[5]}]" in own
        for _, local, _, state, *rest in (line.split() for table in tables for line in table)
    )


def has_turn(pid: int) -> bool:
    """Report whether a worker holds the lock of whoever writes."""
    lock = re.compile(rf"^\d+: POSIX +ADVISORY +WRITE {pid} \S+ {_TURN} {_TURN}$", re.MULTILINE)
    return lock.search(Path("/proc/locks").read_text()) is not None
