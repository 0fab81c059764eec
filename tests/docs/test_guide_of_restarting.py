"""The guide for restarts and upgrades, word by word, against two brokers that clients call meanwhile."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.pair import Clients, Pair, paired
from tests.support.pages import ROOT, blocks, section
from tests.support.terminal import typed

GUIDE = ROOT / "docs" / "how-to" / "restart-and-upgrade.md"
RESTART = re.compile(r"ssh (\S+) sudo systemctl restart credbroker")


@pytest.fixture
def pair(tmp_path: Path, postgresql_with_schema: Callable[[], str]) -> Iterator[Pair]:
    with paired(tmp_path, postgresql_with_schema()) as found:
        yield found


def commands(pair: Pair) -> list[str]:
    """The guide's commands, for these brokers. Who restarts one is told its name."""
    text = section(GUIDE).replace("postgresql://credbroker@db.example.org/credbroker", f"'{pair.url}'")
    for number, name in enumerate(("a.example.org", "b.example.org")):
        text = text.replace(f"{name}:8443", pair.address(number)).replace(name, str(number))
    return [command for block in blocks(text) if block.language == "console" for command in block.commands()]


@pytest.mark.postgres
async def test_the_guide_restarts_and_upgrades_and_no_call_fails(pair: Pair) -> None:
    await pair.live(0)
    await pair.live(1)
    clients = Clients(pair.either, 4)
    clients.start()
    at = f"export PATH={Path(sys.executable).parent}:$PATH CREDBROKER_SVID_DIR={pair.either.svids / 'researcher'}"
    known, *following = commands(pair)
    printed, restarted = "", []
    for command in following:
        if restart := RESTART.fullmatch(command):
            await pair.renew(int(restart[1]))
            restarted.append(int(restart[1]))
        else:
            printed += (await asyncio.to_thread(typed, pair.folder, [at, known, command]))[-1][1]
    await clients.come_to(1)
    await clients.finish()
    assert restarted == [0, 1]
    assert [printed.count(f"{pair.address(number)}: TLS works both ways, and it serves") for number in (0, 1)] == [2, 2]
    assert re.search(r"revision +\d+", printed)
