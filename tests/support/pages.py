"""What a page tells a reader to do: its commands and programs, as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_SAVED = re.compile(r"Save as `([^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page: its language, its text, and the file that a reader is told to save it as, if any."""

    language: str
    text: str
    saved_as: str = ""

    def commands(self) -> list[str]:
        """Return what stands behind each prompt, with continued lines put together."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:].strip() for line in joined.splitlines() if line.startswith(("$ ", "# "))]


def section(page: Path, title: str = "") -> str:
    """Return a page's text, or what stands under one of its headings until the next of the same or a higher level."""
    text = page.read_text(encoding="utf-8")
    if not title:
        return text
    level, rest = re.split(rf"^(#+) {re.escape(title)}\n", text, flags=re.MULTILINE)[1:]
    return re.split(rf"^#{{1,{len(level)}}} ", rest, flags=re.MULTILINE)[0]


def blocks(text: str) -> list[Block]:
    """Return a text's blocks, in order. What stands between two says how the second is saved."""
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        saved = _SAVED.findall(text[end : match.start()])
        found.append(Block(match[1], match[2], saved[-1] if saved else ""))
        end = match.end()
    return found
