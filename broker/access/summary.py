"""What a request was about, in its sender's words: what a refusal of it is logged and recorded with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """What a request was about, as far as it said so, word for word.

    `tools` are the parts of an OAuth scope, such as `tool:read_file`.
    """

    task_id: str = ""
    lease_id: str = ""
    resource: str = ""
    tools: tuple[str, ...] = ()
