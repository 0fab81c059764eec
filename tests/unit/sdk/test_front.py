"""The front of the SDK: few names, loaded when asked for, on the reference page; readers import from nowhere else."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import broker.sdk
from tests.support.pages import PAGES, ROOT, blocks

PAGE = (ROOT / "docs" / "reference" / "sdk.md").read_text(encoding="utf-8")
FRONT, MODULES = PAGE.split("\n## `broker.sdk`\n")[1].split("\n## ")
NAMES = re.findall(r"^\| `(\w+)` \|", FRONT, re.MULTILINE)
OF_FRAMEWORKS = {
    module: set(re.findall(r"`(\w+)`", names))
    for module, names in re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", MODULES, re.MULTILINE)
}


def imports() -> Iterator[tuple[str, str, str]]:
    """Yield page, module and name of each import of ours in a program of the pages."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language != "python":
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "broker":
                    yield from ((str(page.relative_to(ROOT)), node.module or "", alias.name) for alias in node.names)
                elif isinstance(node, ast.Import):
                    ours = [alias.name for alias in node.names if alias.name.partition(".")[0] == "broker"]
                    assert ours == [], page


def test_the_page_has_what_is_promised_and_nothing_else() -> None:
    assert sorted(NAMES) == sorted(broker.sdk.__all__)
    assert len(NAMES) <= 20


@pytest.mark.parametrize("name", broker.sdk.__all__)
def test_what_is_promised_is_there(name: str) -> None:
    found = getattr(broker.sdk, name)
    assert found.__name__ == name
    assert found.__doc__
    assert name in dir(broker.sdk)


def test_what_is_not_promised_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Keeper'"):
        broker.sdk.Keeper  # type: ignore[attr-defined]  # noqa: B018


def test_a_reader_imports_from_the_front_or_for_a_framework() -> None:
    found = list(imports())
    assert len(found) > 20
    for page, module, name in found:
        promised = broker.sdk.__all__ if module == "broker.sdk" else OF_FRAMEWORKS.get(module, ())
        elsewhere = not module.startswith("broker.sdk") and name not in broker.sdk.__all__  # the sandbox, say
        assert name in promised or elsewhere, f"{page} imports `{name}` from `{module}`"


@pytest.mark.parametrize("module", sorted(OF_FRAMEWORKS))
def test_the_modules_for_frameworks_have_what_the_page_says(module: str) -> None:
    names = OF_FRAMEWORKS[module]
    assert names
    assert names <= set(dir(importlib.import_module(module)))


def test_every_module_for_a_framework_is_on_the_page() -> None:
    rooms = [ROOT / "broker" / "sdk" / "attach", ROOT / "broker" / "sdk" / "guard" / "mcp"]
    needing = {"agents", "fastmcp", "grpc", "httpx", "httpx2", "mcp"}
    for file in (file for room in rooms for file in room.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        roots = {(node.module or "").partition(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)}
        roots |= {a.name.partition(".")[0] for node in tree.body if isinstance(node, ast.Import) for a in node.names}
        if roots & needing:
            assert ".".join(file.relative_to(ROOT).with_suffix("").parts) in OF_FRAMEWORKS


def test_a_name_is_loaded_when_it_is_asked_for() -> None:
    script = (
        "import sys, broker.sdk as sdk\n"
        "loaded = lambda: [name for name in ('grpc', 'google.protobuf', 'cryptography') if name in sys.modules]\n"
        "assert loaded() == [], loaded()\n"
        "sdk.Grant, sdk.Refusal\n"
        "assert loaded() == [], loaded()\n"
        "sdk.Verifier\n"
        "assert loaded() == ['cryptography'], loaded()\n"
        "sdk.Client\n"
        "assert 'grpc' in loaded()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
