"""How a failure reaches the caller: a message with a remedy on stderr, and an exit code that means something."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

import click

from broker.cli.output import Format, asked_format, printable
from broker.model.errors import CannotStart, Reason, Refusal


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3
    NOT_AUTHENTICATED = 4
    DENIED = 5
    NOT_FOUND = 6
    PARTIAL = 7
    UNAVAILABLE = 8


_MEANINGS = MappingProxyType(
    {
        Exit.OK: "done",
        Exit.FAILED: "failed, or a check found something",
        Exit.USAGE: "the command or a request field is wrong",
        Exit.STOPPED: "declined at the prompt, or out of time",
        Exit.NOT_AUTHENTICATED: "the broker does not know you: check the SVID",
        Exit.DENIED: "refused by policy, group, tenant, lock or quota",
        Exit.NOT_FOUND: "no such thing, or none that you may see",
        Exit.PARTIAL: "done for some, not for others",
        Exit.UNAVAILABLE: "not now: try again",
    }
)

EXITS = MappingProxyType(
    {
        Reason.INVALID_ARGUMENT: Exit.USAGE,
        Reason.IDENTITY_MISSING: Exit.NOT_AUTHENTICATED,
        Reason.IDENTITY_INVALID: Exit.NOT_AUTHENTICATED,
        Reason.IDENTITY_EXPIRED: Exit.NOT_AUTHENTICATED,
        Reason.IDENTITY_UNKNOWN: Exit.NOT_AUTHENTICATED,
        Reason.ASSERTION_REPLAYED: Exit.NOT_AUTHENTICATED,
        Reason.PROOF_INVALID: Exit.NOT_AUTHENTICATED,
        Reason.PROOF_NONCE_REQUIRED: Exit.NOT_AUTHENTICATED,
        Reason.GROUP_REQUIRED: Exit.DENIED,
        Reason.TENANT_FORBIDDEN: Exit.DENIED,
        Reason.TASK_NOT_FOUND: Exit.NOT_FOUND,
        Reason.TASK_NOT_ACTIVE: Exit.FAILED,
        Reason.TASK_AMBIGUOUS: Exit.FAILED,
        Reason.TOOL_NOT_DECLARED: Exit.DENIED,
        Reason.TOOL_UNKNOWN: Exit.DENIED,
        Reason.POLICY_DENIED: Exit.DENIED,
        Reason.POLICY_ERROR: Exit.DENIED,
        Reason.HOLDER_UNPROVEN: Exit.DENIED,
        Reason.LOCKED: Exit.DENIED,
        Reason.QUOTA_EXCEEDED: Exit.DENIED,
        Reason.REQUEST_ID_REUSED: Exit.FAILED,
        Reason.LEASE_NOT_FOUND: Exit.NOT_FOUND,
        Reason.LEASE_NOT_LIVE: Exit.FAILED,
        Reason.LIFETIME_EXHAUSTED: Exit.FAILED,
        Reason.LOCK_NOT_FOUND: Exit.NOT_FOUND,
        Reason.ENTRY_NOT_FOUND: Exit.NOT_FOUND,
        Reason.FEED_SESSION_UNKNOWN: Exit.FAILED,
        Reason.LEDGER_UNAVAILABLE: Exit.UNAVAILABLE,
        Reason.RECORD_ALTERED: Exit.FAILED,
        Reason.UNAVAILABLE: Exit.UNAVAILABLE,
        Reason.INTERNAL: Exit.FAILED,
        Reason.TOKEN_INVALID: Exit.DENIED,
        Reason.TOKEN_EXPIRED: Exit.DENIED,
        Reason.TOKEN_REVOKED: Exit.DENIED,
        Reason.HOLDER_MISMATCH: Exit.DENIED,
        Reason.TOOL_NOT_GRANTED: Exit.DENIED,
        Reason.ARGUMENT_OUT_OF_BOUNDS: Exit.DENIED,
        Reason.VERIFIER_STALE: Exit.UNAVAILABLE,
    }
)
"""What each refusal exits with. Complete: a test compares it with `Reason`."""


class Stop(click.ClickException):
    """The command ends here, with this code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failure as it is shown: `shown` has one line per label, `document` is the same for programs."""

    code: Exit
    message: str
    document: Mapping[str, object]
    labels: Mapping[str, str]


def exit_codes_text() -> str:
    """Write the table of exit codes, for the help."""
    return "\n".join(f"  {code.value}  {meaning}" for code, meaning in _MEANINGS.items())


def report(ctx: click.Context, error: Refusal | CannotStart | click.ClickException | OSError) -> Exit:
    """Say on stderr what went wrong and what to do next; return the exit code."""
    failure = _read(error)
    if asked_format(ctx) is Format.JSON:
        click.echo(json.dumps({"error": dict(failure.document)}), err=True)
    elif isinstance(error, click.UsageError):
        error.show()
    else:
        for line in f"error: {failure.message}".splitlines():
            click.echo(printable(line), err=True)
        for label, text in failure.labels.items():
            click.echo(f"  {label + ':':<17}{printable(text)}", err=True)
    return failure.code


def _read(error: Refusal | CannotStart | click.ClickException | OSError) -> _Failure:
    if isinstance(error, Refusal):
        return _refused(error)
    if isinstance(error, click.ClickException):
        message = error.format_message()
        code = error.code if isinstance(error, Stop) else Exit(error.exit_code)
    elif isinstance(error, CannotStart):
        message, code = str(error), Exit.FAILED
    else:
        where = f"`{error.filename}`: " if error.filename else ""
        message, code = f"{where}{error.strerror or error}", Exit.FAILED
    return _Failure(code, message, {"reason": code.name, "message": message}, {})


def _refused(refusal: Refusal) -> _Failure:
    hints = refusal.hints
    document = {
        "reason": refusal.reason.value,
        "message": refusal.message,
        "missing": hints.missing,
        "policy_revision": hints.policy_revision,
        "decision_id": hints.decision_id,
        "next": hints.next,
        "violations": [{"field": wrong.field, "description": wrong.description} for wrong in refusal.violations],
    }
    named = {
        "reason": refusal.reason.value,
        "missing": hints.missing,
        "policy revision": hints.policy_revision,
        "decision id": hints.decision_id,
        "field": "; ".join(f"{wrong.field}: {wrong.description}" for wrong in refusal.violations),
        "next": hints.next,
    }
    labels = {label: text for label, text in named.items() if text}
    return _Failure(EXITS[refusal.reason], refusal.message, document, labels)


@contextmanager
def stopping_on(*kinds: type[Exception]) -> Iterator[None]:
    """End the command with the message of these errors, which is fit for people."""
    try:
        yield
    except kinds as error:
        raise Stop(str(error)) from None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done for each name, and for which it was refused."""

    done: Sequence[Mapping[str, object]]
    refused: Mapping[str, Refusal]

    def conclude(self) -> None:
        """End the command well only if nothing was refused.

        Raises:
            Stop: something was (`Exit.PARTIAL`).
        """
        if self.refused:
            failed = "; ".join(f"`{name}`: {refusal}" for name, refusal in self.refused.items())
            total = len(self.done) + len(self.refused)
            raise Stop(f"done for {len(self.done)} of {total}, but not for {failed}", Exit.PARTIAL)


def for_each(names: Iterable[str], act: Callable[[str], Mapping[str, object]]) -> Outcome:
    """Do something for each name, whatever happens to the others.

    Raises:
        Refusal: it was refused for all of them: the first refusal.
    """
    done, refused = [], {}
    for name in names:
        try:
            done.append(act(name))
        except Refusal as refusal:
            refused[name] = refusal
    if refused and not done:
        raise next(iter(refused.values()))
    return Outcome(done, refused)
