"""The parent of the workers: it starts them, replaces those that die or hang, and ends with them.

It runs no event loop and no thread, has no connection to anything, and so can fork at any time. What it holds for all,
the lock on the database's file and the listeners' addresses, its workers inherit: should it be killed, nobody else can
have them until the last worker has ended, which each does when it finds that it has no parent any more.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from broker.workers.line import LIVES, SERVES, Line, hear, pair, say

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_LOOK_SECONDS = 0.2
_MISSED_SECONDS = 0.5
_SILENT_SECONDS = 2.0
_STARTING_SECONDS = 60.0
_ENDING_SECONDS = 70.0  # a worker bounds its own end, by less
_MOST_DEATHS = 5
_MINUTE = 60.0
_FIRST_PAUSE_SECONDS = 0.1


class WorkersEnded(Exception):
    """The workers cannot be kept alive. The message says how they ended."""


@dataclass(slots=True)
class _Worker:
    """A running worker. It has been `silent` for so many seconds in which it, and we, could have done something."""

    pid: int
    line: socket.socket
    serves: bool = False
    silent: float = 0.0
    waited: float = 0.0  # for a processor, in all its life, when that was looked at last

    def is_silent_for(self, seconds: float) -> None:
        """Count seconds, but for those in which it has waited for a processor: then silence is no fault of its own."""
        if self.silent > _MISSED_SECONDS:
            waited = _waited_for_processor(self.pid)
            seconds = max(0.0, seconds - (waited - self.waited if self.waited else 0.0))
            self.waited = waited
        self.silent += seconds

    def has_spoken(self) -> None:
        """Begin to count anew."""
        self.silent = self.waited = 0.0


class Parent:
    """Keeps so many workers alive."""

    def __init__(self, count: int, all_serve: Callable[[], None]) -> None:
        """Start nothing yet. `all_serve` is called once, when the first so many serve."""
        self._all_serve = all_serve
        self._workers: dict[int, _Worker] = {}
        self._starts_at = [time.monotonic()] * count  # of those that are to be started
        self._count = count
        self._deaths: deque[float] = deque()
        self._have_served = False
        self._told_to_stop = False
        self._stopped_at: float | None = None
        self._problem: str | None = None
        self._lines = selectors.DefaultSelector()
        self._looked_at = time.monotonic()
        self._log = structlog.get_logger("workers")

    def run(self) -> Line | None:
        """Keep the workers alive until told to stop, and they have ended; then return None.

        It returns in each worker as well, which is a fork of this process, with the worker's line. So there is nothing
        to clean up on the way out of here.

        Raises:
            WorkersEnded: one could not start, or they die again and again.
        """
        for number in _STOPPING:
            signal.signal(number, self._tell_to_stop)
        while self._stopped_at is None or self._workers:
            if (line := self._start_missing()) is not None:
                return line
            self._listen()
            self._bury()
            self._kill_silent()
            if self._told_to_stop:
                self._stop()
        if self._problem is not None:
            raise WorkersEnded(self._problem)
        return None

    def _tell_to_stop(self, _number: int, _frame: object) -> None:
        self._told_to_stop = True

    def _start_missing(self) -> Line | None:
        """Start those whose time it is; return in each of them with its line."""
        now = time.monotonic()
        while self._stopped_at is None and self._starts_at and self._starts_at[0] <= now:
            self._starts_at.pop(0)
            if (line := self._start()) is not None:
                return line
        return None

    def _start(self) -> Line | None:
        ours, theirs = pair()
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)  # none may come between the two lives
        pid = os.fork()
        if pid == 0:
            for number in _STOPPING:
                signal.signal(number, signal.SIG_DFL)
            self._lines.close()
            for end in (ours, *(worker.line for worker in self._workers.values())):
                end.close()
        else:
            theirs.close()
            self._workers[pid] = _Worker(pid, ours)
            self._lines.register(ours, selectors.EVENT_READ, self._workers[pid])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        return Line(theirs) if pid == 0 else None

    def _listen(self) -> None:
        """Wait for a moment for what workers say; pass on what is for others."""
        for key, _ in self._lines.select(_LOOK_SECONDS):
            worker: _Worker = key.data
            words = hear(worker.line)
            if words is None:
                self._lines.unregister(worker.line)
                continue
            worker.has_spoken()
            worker.serves = worker.serves or SERVES in words
            for word in words:
                if word not in (LIVES, SERVES):
                    self._pass_on(word, worker)
        serving = sum(worker.serves for worker in self._workers.values())
        if not self._have_served and serving == self._count:
            self._have_served = True
            self._all_serve()

    def _pass_on(self, word: bytes, sender: _Worker) -> None:
        for worker in self._workers.values():
            if worker is not sender:
                say(worker.line, word)

    def _kill_silent(self) -> None:
        """Kill whoever is silent: it may hold what the others wait for. While we slept ourselves, nobody was."""
        now = time.monotonic()
        awake, self._looked_at = min(now - self._looked_at, 2 * _LOOK_SECONDS), now
        late = self._stopped_at is not None and now > self._stopped_at + _ENDING_SECONDS
        for worker in self._workers.values():
            worker.is_silent_for(awake)
            hangs = worker.silent > (_SILENT_SECONDS if worker.serves else _STARTING_SECONDS)
            if late or (hangs and self._stopped_at is None):
                self._log.error("workers.killed", worker=worker.pid, silent_seconds=round(worker.silent, 1))
                os.kill(worker.pid, signal.SIGKILL)
                worker.has_spoken()  # it has its time to end

    def _bury(self) -> None:
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            del self._workers[pid]
            if worker.line in self._lines.get_map():
                self._lines.unregister(worker.line)
            worker.line.close()
            self._note_end(pid, _how(os.waitstatus_to_exitcode(status)), failed=status != 0)

    def _note_end(self, pid: int, how: str, *, failed: bool) -> None:
        if self._stopped_at is not None:
            if failed and self._problem is None:
                self._problem = f"a worker, told to stop, ended {how}"
            return
        self._log.error("workers.ended", worker=pid, how=how)
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - _MINUTE:
            self._deaths.popleft()
        if not self._have_served:
            self._give_up(f"a worker could not start: it ended {how}")
        elif len(self._deaths) > _MOST_DEATHS:
            self._give_up(f"workers ended {len(self._deaths)} times within a minute, the last of them {how}")
        else:
            self._starts_at.append(now + _FIRST_PAUSE_SECONDS * 2 ** (len(self._deaths) - 1))
            self._starts_at.sort()

    def _give_up(self, problem: str) -> None:
        self._problem = f"{problem}; the log says more"
        self._stop()

    def _stop(self) -> None:
        """Tell all to stop, once."""
        if self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic()
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)


def _how(code: int) -> str:
    """Say how a process has ended."""
    return f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit status {code}"


def _waited_for_processor(pid: int) -> float:
    """Report for how many seconds the threads of a process have waited for a processor (proc(5)); 0, if it is gone."""
    waited = 0
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            waited += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    return waited / 1e9
