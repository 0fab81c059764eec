"""A command that runs with a credential: got before it starts, renewed while it runs, released when it has ended.

This imports gRPC, so `credbroker run` imports it when it runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import click

from broker.cli.handover import Handover
from broker.cli.options import Caller
from broker.cli.output import printable
from broker.cli.wanted import Wanted, shortened
from broker.model.errors import Refusal
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.keeping import Event

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_TYPED = (signal.SIGINT, signal.SIGQUIT)  # the terminal has keys for these
_BY_SIGNAL = 128  # a shell's exit code for a command that a signal ended is this and its number
_NOT_FOUND, _NOT_STARTED = 127, 126  # a shell's, too


async def supervise(
    caller: Caller, wanted: Wanted, way: AbstractContextManager[Handover], command: Sequence[str]
) -> int:
    """Run a command with a credential; return its exit code, as a shell would.

    The credential is released whatever happens to the command, and to us short of SIGKILL.

    Raises:
        Refusal, Stop: there is no credential; the command was not started.
        OSError: the token cannot be handed over; the command was not started.
    """
    with _passing_on() as signals, way as handover:

        def tell(credential: Credential, event: Event, error: Refusal | OSError | None) -> None:
            if error is None:
                handover.put(credential.token)
            else:
                _tell(_told(credential, event, error))

        tools = wanted.tools
        async with (
            Client(caller.address, caller.svid_dir, timeout=caller.timeout) as client,
            client.credential(
                wanted.task_id, tools.resource, tools.grants, lifetime=wanted.lifetime, tell=tell
            ) as credential,
        ):
            handover.put(credential.token)
            for warning in shortened(credential.token.reveal(), wanted.lifetime):
                _tell(f"{warning}; it is renewed while the command runs")
            return await _run(command, handover, signals)


def _told(credential: Credential, event: Event, error: Refusal | OSError) -> str:
    """Return what has become of a credential, and until when it lives."""
    end = f"{credential.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    if event is Event.NOT_RELEASED:
        return f"lease {credential.lease_id} {event}, and lives until {end}: {error}"
    return f"the credential {event}, and is dead by {end} at the latest: {error}"


class _Signals:
    """Passes signals on to the command. Those that come before there is one are in `early`."""

    def __init__(self) -> None:
        self.early: list[signal.Signals] = []
        self.command: subprocess.Popen[bytes] | None = None

    def take(self, number: signal.Signals) -> None:
        if self.command is None:
            self.early.append(number)
        elif not _reaches_the_command(number):
            self.command.send_signal(number)  # nothing, if it has ended


@contextmanager
def _passing_on() -> Iterator[_Signals]:
    """Take signals for the time of a block. What is ignored (`nohup`) stays so, for the command as well."""
    loop, signals = asyncio.get_running_loop(), _Signals()
    taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, signals.take, number)
    try:
        yield signals
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def _reaches_the_command(number: signal.Signals) -> bool:
    """Report whether a signal reaches the command without us: a key's goes to all processes in the foreground.

    Passed on it would come twice, and for many programs the second Ctrl-C means to drop everything.
    """
    if number not in _TYPED:
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # there is none
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


async def _run(command: Sequence[str], handover: Handover, signals: _Signals) -> int:
    if signals.early:
        return _BY_SIGNAL + signals.early[0]
    try:
        process = signals.command = _start(command, handover)
    except OSError as error:
        _tell(f"cannot start `{command[0]}`: {error.strerror}")
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_STARTED
    code = await asyncio.to_thread(process.wait)
    return code if code >= 0 else _BY_SIGNAL - code


def _start(command: Sequence[str], handover: Handover) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=handover.environment(os.environ), pass_fds=handover.descriptors)


def _tell(text: str) -> None:
    """Tell people on stderr, which is the command's too."""
    click.echo(printable(f"credbroker run: {text}"), err=True)
