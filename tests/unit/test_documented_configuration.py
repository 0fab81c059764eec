"""Every piece of configuration that a guide shows is good for the daemon as it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker.config.settings import load
from broker.policy.tables import read_groups, read_tools

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"
BLOCKS = [
    pytest.param(block, id=f"{guide.stem}-{number}")
    for guide in sorted(GUIDES.glob("*.md"))
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL))
]
LEAST = {
    "broker": ("issuer", "https://broker.example.org"),
    "identity": ("svid_dir", "svid"),
    "database": ("url", "broker.db"),
    "policy": ("bundle", "bundle"),
    "keys": ("dir", "keys"),
}


def completed(block: str) -> str:
    """Add what a configuration needs besides, where the block does not say it."""
    shown: dict[str, Any] = tomllib.loads(block)
    for table, (key, value) in LEAST.items():
        if key in shown.get(table, {}) or "workload_api" in shown.get(table, {}):
            continue
        header, line = f"[{table}]\n", f'{key} = "{value}"\n'
        block = block.replace(header, header + line) if header in block else header + line + block
    return block


@pytest.mark.parametrize("block", BLOCKS)
def test_what_a_guide_shows_is_read(block: str, tmp_path: Path) -> None:
    problems: list[Any] = []
    shown = tomllib.loads(block)
    if "resource" in shown:
        assert read_tools("tools.toml", block, problems)
    elif "groups" in shown:
        assert read_groups("groups.toml", block, problems)
    else:
        path = tmp_path / "broker.toml"
        path.write_text(completed(block))
        load(path)
    assert not problems


def test_there_is_something_to_read() -> None:
    assert len(BLOCKS) >= 8
