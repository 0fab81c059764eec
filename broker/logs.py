"""Structured logs, one JSON object a line on standard error, in which no secret can be read (law 7)."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from broker.model.secrecy import HIDDEN, hide

_SECRET_NAMES = re.compile(r"token|authorization|secret|password|private_key|credential$", re.IGNORECASE)


def configure(level: str = "INFO") -> None:
    """Set logging up for a process: once, by its entry point."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide what is named like a secret, and what looks like one, at any depth."""
    return {name: HIDDEN if _SECRET_NAMES.search(name) else _hide(value) for name, value in event.items()}


def _hide(value: object) -> object:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, bytes):
        return _hide(value.decode("utf-8", "replace"))
    if isinstance(value, dict):
        return {name: HIDDEN if _SECRET_NAMES.search(str(name)) else _hide(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hide(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else _hide(str(value))
