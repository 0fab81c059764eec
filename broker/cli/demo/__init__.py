"""`credbroker demo`: the whole life of a credential, between real processes."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.failure import Stop
from broker.cli.output import note, output_option, show, wants_json

if TYPE_CHECKING:
    from broker.cli.demo.story import Seen


@click.command()
@output_option
def demo() -> None:
    """Watch the whole life of a credential: a broker, an orchestrator, two agents and two tool servers, each a process.

    Nothing is left behind. Exits 1 if any step is not as told.

    \b
    credbroker demo
    credbroker demo -o json
    """
    from broker.cli.demo.stage import NotAsTold, set_up
    from broker.cli.demo.story import SCENES, play

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are stopped
    seen: list[Seen] = []
    with tempfile.TemporaryDirectory(prefix="credbroker-demo-") as directory:
        try:
            with set_up(Path(directory)) as stage:
                for scene in play(stage):
                    seen.append(scene)
                    if not wants_json():
                        _tell(len(seen), scene)
        except NotAsTold as error:
            raise Stop(str(error)) from None
    ok = len(seen) == len(SCENES) and all(scene.ok for scene in seen)
    if wants_json():
        show({"ok": ok, "steps": [_document(scene) for scene in seen]})
    if not ok:
        raise Stop(f"not as told: {seen[-1].scene.name}")
    note("everything was as told")


def _document(seen: Seen) -> dict[str, object]:
    return {
        "name": seen.scene.name,
        "ok": seen.ok,
        "expected": seen.scene.expected,
        "observed": seen.observed,
        "ms": seen.ms,
    }


def _tell(number: int, seen: Seen) -> None:
    """Tell one scene: what happens, and what came of it."""
    from rich.console import Console
    from rich.text import Text

    mark, style = ("✓", "green") if seen.ok else ("✗", "red")
    lines = [
        Text(f"{number:2}. {seen.scene.told}", style="bold"),
        Text.assemble((f"    {mark} {seen.observed}", style), (f"  {seen.ms:.0f} ms", "dim")),
    ]
    if seen.detail:
        lines.append(Text(f"      {seen.detail}", style="dim"))
    if not seen.ok:
        lines.append(Text(f"      expected: {seen.scene.expected}", style="red"))
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line)
