"""`credbroker demo`: stories of credentials, between real processes."""

from __future__ import annotations

import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.failure import Stop
from broker.cli.output import note, output_option, show, wants_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from broker.cli.demo.scene import Scene, Seen
    from broker.cli.demo.stage import Stage


@click.command()
@click.argument("story", type=click.Choice(["life", "mcp"]), default="life")
@output_option
def demo(story: str) -> None:
    """Watch a story: a broker, an orchestrator, agents and tool servers, each a process.

    "life" is the whole life of a credential; "mcp" is that of a stock MCP client, which comes to a guarded MCP server
    and finds the broker by itself. Nothing is left behind. Exits 1 if any step is not as told.

    \b
    credbroker demo
    credbroker demo mcp
    credbroker demo -o json
    """
    from broker.cli.demo.scene import play
    from broker.cli.demo.stage import NotAsTold

    set_up, scenes = _story(story)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are stopped
    seen: list[Seen] = []
    with tempfile.TemporaryDirectory(prefix="credbroker-demo-") as directory:
        try:
            with set_up(Path(directory)) as stage:
                for scene in play(stage, scenes):
                    seen.append(scene)
                    if not wants_json():
                        _tell(len(seen), scene)
        except NotAsTold as error:
            raise Stop(str(error)) from None
    ok = len(seen) == len(scenes) and all(scene.ok for scene in seen)
    if wants_json():
        show({"ok": ok, "steps": [_document(scene) for scene in seen]})
    if not ok:
        raise Stop(f"not as told: {seen[-1].scene.name}")
    note("everything was as told")


def _story(name: str) -> tuple[Callable[[Path], AbstractContextManager[Stage]], Sequence[Scene]]:
    """Return how a story's stage is set up, and its scenes."""
    if name == "mcp":
        if find_spec("mcp") is None:
            raise Stop("this story needs package `mcp`; install `credbroker[server,mcp]`")
        from broker.cli.demo import mcp_story

        return mcp_story.set_up, mcp_story.SCENES
    from broker.cli.demo import life

    return life.set_up, life.SCENES


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
