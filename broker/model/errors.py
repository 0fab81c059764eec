"""The two families of errors: refusals, which callers get, and what stops a start, which an operator gets.

The doors map a refusal to gRPC codes and HTTP statuses in one table each. The command line tells of both in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why the answer is no; the same names as `ErrorReason` in protos/broker/v1/error_reason.proto."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    IDENTITY_MISSING = "IDENTITY_MISSING"
    IDENTITY_INVALID = "IDENTITY_INVALID"
    IDENTITY_EXPIRED = "IDENTITY_EXPIRED"
    IDENTITY_UNKNOWN = "IDENTITY_UNKNOWN"
    ASSERTION_REPLAYED = "ASSERTION_REPLAYED"
    PROOF_INVALID = "PROOF_INVALID"
    PROOF_NONCE_REQUIRED = "PROOF_NONCE_REQUIRED"
    GROUP_REQUIRED = "GROUP_REQUIRED"
    TENANT_FORBIDDEN = "TENANT_FORBIDDEN"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    TASK_NOT_ACTIVE = "TASK_NOT_ACTIVE"
    TASK_AMBIGUOUS = "TASK_AMBIGUOUS"
    TOOL_NOT_DECLARED = "TOOL_NOT_DECLARED"
    TOOL_UNKNOWN = "TOOL_UNKNOWN"
    POLICY_DENIED = "POLICY_DENIED"
    POLICY_ERROR = "POLICY_ERROR"
    HOLDER_UNPROVEN = "HOLDER_UNPROVEN"
    LOCKED = "LOCKED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    LEASE_NOT_FOUND = "LEASE_NOT_FOUND"
    LEASE_NOT_LIVE = "LEASE_NOT_LIVE"
    LIFETIME_EXHAUSTED = "LIFETIME_EXHAUSTED"
    LOCK_NOT_FOUND = "LOCK_NOT_FOUND"
    ENTRY_NOT_FOUND = "ENTRY_NOT_FOUND"
    FEED_SESSION_UNKNOWN = "FEED_SESSION_UNKNOWN"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    RECORD_ALTERED = "RECORD_ALTERED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    HOLDER_MISMATCH = "HOLDER_MISMATCH"
    TOOL_NOT_GRANTED = "TOOL_NOT_GRANTED"
    ARGUMENT_OUT_OF_BOUNDS = "ARGUMENT_OUT_OF_BOUNDS"
    VERIFIER_STALE = "VERIFIER_STALE"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field of a request: its path, such as `grants[0].tool`, and what was wrong with it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a refusal tells beside its message; the same on every surface. Empty means: does not apply.

    `retry_seconds` is when to come again, if that is known. `lease_state` is that of a lease that is not live.
    """

    missing: str = ""
    next: str = ""
    policy_revision: str = ""
    decision_id: str = ""
    retry_seconds: int = 0
    lease_state: str = ""

    def metadata(self) -> dict[str, str]:
        """Return the hints that apply under their names in `google.rpc.ErrorInfo.metadata` (lowerCamel)."""
        named = {
            "missing": self.missing,
            "next": self.next,
            "policyRevision": self.policy_revision,
            "decisionId": self.decision_id,
            "retrySeconds": str(self.retry_seconds or ""),
            "leaseState": self.lease_state,
        }
        return {name: text for name, text in named.items() if text}


_NO_HINTS = Hints()


@dataclass(eq=False)
class Refusal(Exception):
    """A typed no. `message` says what was wrong and never holds a secret."""

    reason: Reason
    message: str
    hints: Hints = _NO_HINTS
    violations: Sequence[FieldViolation] = field(default=())

    def __str__(self) -> str:
        """Read as a sentence: reason, message and the next step, if one is known."""
        tail = f" ({self.hints.next})" if self.hints.next else ""
        return f"{self.reason}: {self.message}{tail}"


class CannotStart(Exception):
    """What a broker or a command needs cannot be used: a file, an address, a key, a database.

    The message names it, says why, and what to do; it holds no secret.
    """


class ListenProblem(CannotStart):
    """An address cannot be listened on. The message names the key, the address, the cause and the remedy."""


def invalid(field_path: str, description: str) -> Refusal:
    """Refuse one malformed field of a request."""
    return Refusal(
        Reason.INVALID_ARGUMENT,
        f"{field_path}: {description}",
        violations=(FieldViolation(field_path, description),),
    )
