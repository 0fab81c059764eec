"""Every command line that a page, the help or a message shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest

from broker.cli import cli
from tests.support.pages import PAGES, ROOT, blocks

_PLACEHOLDERS = {"TASK_ID": "t", "LOCK_ID": "l", "INDEX": "0", "FILE": "f", "DIR": "d", "$TASK": "t", "…": "x"}
_ENDS = {"|", ">", "&", "&&", ";", "2>"}
_YAML = re.compile(r"\[(?:credbroker|/opt/credbroker/bin/credbroker), ([^\n]*)\]")
_INLINE = re.compile(r"`credbroker ([^`\n]*(?:\n[^`\n]*)?)`")
_SOURCES = sorted((ROOT / "broker").rglob("*.py"))


def shown(page: Path) -> list[str]:
    """The arguments of each command of ours that a page shows in a block of commands or of YAML."""
    found = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in ("yaml", "yml"):
            found += [shlex.join(re.split(r",\s*", match)) for match in _YAML.findall(block.text)]
        for command in block.commands():
            words = words_of(command) if "credbroker" in command else []
            starts = [at for at, word in enumerate(words) if begins(words[at - 1] if at else "", word)]
            for start in starts:
                rest = words[start + 1 :]
                end = next((at for at, word in enumerate(rest) if word in _ENDS), len(rest))
                found.append(shlex.join(rest[:end]))
    return found


def begins(before: str, word: str) -> bool:
    """Report whether a word is our program where a shell starts one: first, behind variables, `--`, a pipe or so."""
    ours = Path(word).name in ("credbroker", "!credbroker")
    return ours and (not before or before in _ENDS or before == "--" or "=" in before or word == "!credbroker")


def words_of(command: str) -> list[str]:
    lexer = shlex.shlex(re.sub(r"\s#\s.*", "", command), posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in lexer:
        words += shlex.split(word) if word.startswith("!credbroker") else [word]
    return words


SHOWN = [pytest.param(words, id=f"{page.stem}: {words}") for page in PAGES for words in shown(page)]


def parse(words: list[str]) -> None:
    """Parse a command line down to its last command, and run nothing."""
    command: click.Command = cli
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(command.name, list(words), parent=context)
        _name, found, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
    command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_of_a_page_is_taken_as_it_stands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, *_: Path(value))  # files need not be there
    words = [_PLACEHOLDERS.get(word, word) for word in shlex.split(line)]
    with suppress(click.exceptions.Exit):  # of --help
        parse([*words, "get"] if words[:2] == ["helper", "git"] else words)  # git itself adds what it wants


def test_there_are_commands_to_take() -> None:
    assert len(SHOWN) >= 30


def in_texts() -> list[tuple[str, str]]:
    """The commands of ours that are named within sentences, of pages and of the program itself."""
    pages = [(page.stem, text) for page in PAGES for text in _INLINE.findall(page.read_text(encoding="utf-8"))]
    code = [(file.stem, text) for file in _SOURCES for text in _INLINE.findall(file.read_text(encoding="utf-8"))]
    return [(name, re.sub(r"\s+", " ", re.sub(r"[{}]", "", text))) for name, text in (*pages, *code)]


@pytest.mark.parametrize(("name", "line"), in_texts())
def test_a_command_within_a_sentence_is_there_with_its_options(name: str, line: str) -> None:
    words = re.sub(r'"[^"]*"|\'[^\']*\'', "x", line).split()
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and words[0].isalpha():
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    until = words.index("--") if "--" in words else len(words)
    asked = {word.partition("=")[0] for word in words[:until] if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}
    assert asked <= known | {"--help", "-h"}, line
