"""A file holds one idea, a function one step, and a name one class."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {
    file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8")
    for folder in ("broker", "tests")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if ROOT / "broker" / "v1" not in file.parents  # generated
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 330, 40
TWINS = {"CredentialAuth"}  # of httpx and httpx2


def nodes(folder: str = "") -> Iterator[ast.AST]:
    for name, source in SOURCES.items():
        if name.startswith(folder):
            yield from ast.walk(ast.parse(source))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines, but for its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    said = function.body[0]
    return lines - ((said.end_lineno or 0) - said.lineno + 1)


def test_no_file_is_long() -> None:
    assert [name for name, source in SOURCES.items() if source.count("\n") > LINES_OF_A_FILE] == []


def test_no_function_is_long() -> None:
    functions = [node for node in nodes() if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [function.name for function in functions if length(function) > LINES_OF_A_FUNCTION] == []


def test_no_class_name_is_defined_twice() -> None:
    names = Counter(node.name for node in nodes("broker/") if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == TWINS
