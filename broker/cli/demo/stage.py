"""The demo's stage: a broker and its callers, as processes of their own, and what the scenes remember."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from broker.model.errors import Reason, Refusal
from broker.sandbox.process import end_of, stop
from broker.sdk.connect.endpoint import ADDRESS_VARIABLE, SVID_DIR_VARIABLE

_ANSWER_SECONDS = 45  # a barrier may take the time that verifiers stay fresh
_STOP_SECONDS = 15


class NotAsTold(Exception):
    """Something that is no refusal went wrong; the text says what."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that prints lines of JSON."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def read(self) -> dict[str, Any]:
        """Wait for its next line.

        Raises:
            NotAsTold: there is none.
        """
        output = _pipe(self.popen.stdout)
        ready, _, _ = select.select([output], [], [], _ANSWER_SECONDS)
        line = output.readline() if ready else b""
        if not line:
            raise NotAsTold(f"the process `{self.name}` did not answer\n{end_of(self.log)}".rstrip())
        document: dict[str, Any] = json.loads(line)
        return document

    def ask(self, do: str, **arguments: object) -> Any:  # noqa: ANN401 (what the actor answers)
        """Ask an actor to do something, and return what it answers.

        Raises:
            Refusal: it was refused.
            NotAsTold: it did not answer.
        """
        _pipe(self.popen.stdin).write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = self.read()
        if "refused" in answer:
            raise Refusal(Reason(answer["refused"]), answer["message"])
        return answer["value"]

    def stop(self) -> None:
        """Let it end by itself, by force if need be."""
        stop(self.popen, _STOP_SECONDS)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 (every process is started with pipes)
    return stream


@dataclass(slots=True)
class Stage:
    """The processes. `resource`, `task_id` and `lease_ids` are what the story leaves for later scenes."""

    directory: Path
    broker: Process
    about: Mapping[str, Any]
    stack: ExitStack
    actors: dict[str, Process] = field(default_factory=dict)
    resource: str = ""
    task_id: str = ""
    lease_ids: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        """The broker's database."""
        return self.directory / "broker.db"

    def enter(self, name: str, svid: str | None, command: Sequence[str]) -> Process:
        """Start an actor. It is ready when it says its first line."""
        self.actors[name] = _start(self.stack, self.directory, name, command, _environment(self.about, svid))
        return self.actors[name]

    def cli(self, svid: str, *arguments: str) -> dict[str, Any]:
        """Run `credbroker` as a person would, and return what it prints, whether it is content or not.

        Raises:
            NotAsTold: it printed nothing.
        """
        done = subprocess.run(
            [sys.executable, "-m", "broker", *arguments, "-o", "json"],
            env=_environment(self.about, svid),
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
        if not done.stdout:
            raise NotAsTold(done.stderr.decode(errors="replace").strip())
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@contextmanager
def opened(directory: Path) -> Iterator[Stage]:
    """Start a broker on a deployment, which is made if it is not there; stop everything at the end.

    Raises:
        NotAsTold: it does not start.
    """
    with ExitStack() as stack:
        command = [sys.executable, "-m", "broker", "dev", "--dir", str(directory)]
        broker = _start(stack, directory, "broker", command, dict(os.environ))
        yield Stage(directory, broker, broker.read(), stack)


def actor(module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of the demo's actors."""
    return [sys.executable, "-m", f"broker.cli.demo.{module}", *arguments]


def _start(
    stack: ExitStack, directory: Path, name: str, command: Sequence[str], environment: dict[str, str]
) -> Process:
    log = directory / f"{name}.log"
    with log.open("wb") as errors:
        popen = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the demo, which stops the others in order
            )
        )
    process = Process(name, popen, log)
    stack.callback(process.stop)
    return process


def _environment(about: Mapping[str, Any], svid: str | None) -> dict[str, str]:
    """Return what tells a process where the broker is and who it is itself, unless it is to know neither."""
    if svid is None:
        return dict(os.environ)
    return {**os.environ, ADDRESS_VARIABLE: about["address"], SVID_DIR_VARIABLE: about["svids"][svid]}
