"""Programs that need version 1 of package `mcp`: they run by an interpreter of their own."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIABLE = "CREDBROKER_MCP1_PYTHON"


def interpreter() -> str:
    """Return the interpreter that has it; `make test` makes one."""
    found = Path(os.environ.get(VARIABLE) or ROOT / ".venv-mcp1" / "bin" / "python")
    assert found.exists(), f"{found} is not there: run `make .venv-mcp1/ready`, or set {VARIABLE}"
    return str(found)


def command(program: str | Path) -> list[str]:
    """Return the command that runs a program with ours beside it."""
    return ["env", f"PYTHONPATH={ROOT}", interpreter(), str(program)]
