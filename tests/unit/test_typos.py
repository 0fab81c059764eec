"""A typo in a configuration or a bundle is told with what was written and what was meant."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config import policy_bundle
from broker.config.settings import load
from broker.config.table import ConfigError
from broker.policy import bundle
from tests.support.sample_policy import SAMPLE

WHOLE = """
[broker]
issuer = "https://broker.example.org"
[listen]
address = "127.0.0.1:8443"
jwt_address = "127.0.0.1:8444"
[identity]
svid_dir = "svids/broker"
audience = "https://broker.example.org"
[[identity.rule]]
match = "spiffe://example.org/agent/*"
tenant = "acme"
groups = ["agents"]
[[identity.issuer]]
name = "ci"
url = "https://ci.example"
[[identity.issuer.condition]]
claim = "ref"
equals = "main"
[database]
url = "broker.db"
migrate = false
[policy]
bundle = "bundle"
[keys]
dir = "keys"
rotation = "30d"
[ledger]
origin = "example.org/ledger"
[limits]
lifetime = "5m"
total_lifetime = "1h"
"""
KEYS = re.findall(r"^(\w+) =", WHOLE, re.MULTILINE)
HEADERS = ["broker", "listen", "identity", "database", "policy", "keys", "ledger", "limits"]


def told(folder: Path, text: str) -> str:
    path = folder / "broker.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    return str(error.value)


def test_without_a_typo_it_loads(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(WHOLE)
    assert load(tmp_path / "broker.toml").limits.lifetime.total_seconds() == 300


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("slip", [lambda name: name[:2] + name[3:], lambda name: f"{name}_", str.title])
def test_a_table(tmp_path: Path, header: str, slip: Callable[[str], str]) -> None:
    text = re.sub(rf"^(\[+){header}\b", rf"\1{slip(header)}", WHOLE, flags=re.MULTILINE)
    assert f"{slip(header)}: unknown key; did you mean `{header}`?" in told(tmp_path, text)


@pytest.mark.parametrize("header", ["rule", "issuer", "issuer.condition"])
def test_a_table_within_a_table(tmp_path: Path, header: str) -> None:
    slip = header[:-2] + header[-1]
    assert f"did you mean `{header.rpartition('.')[2]}`?" in told(
        tmp_path, WHOLE.replace(f"[[identity.{header}", f"[[identity.{slip}")
    )


@pytest.mark.parametrize("number", range(len(KEYS)), ids=KEYS)
def test_a_key(tmp_path: Path, number: int) -> None:
    """Whether it is required or not, and whatever would be complained about if it were merely missing."""
    found = list(re.finditer(r"^(\w+) =", WHOLE, re.MULTILINE))[number]
    key = found[1]
    slip = key[0] + key[2:]
    said = told(tmp_path, WHOLE[: found.start()] + slip + WHOLE[found.end(1) :])
    assert f"`{key}`" in said or f".{key}: missing" in said
    assert slip in said


def slipped(file: str, before: str, after: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert before in text
        (folder / file).write_text(text.replace(before, after))

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (slipped("tools.toml", "[[resource]]", "[[resorce]]"), "unknown key `resorce`; did you mean `resource`?"),
        (slipped("tools.toml", "[[resource.tool]]", "[[resource.tol]]"), "unknown key `tol`; did you mean `tool`?"),
        (slipped("tools.toml", "uri =", "url ="), "unknown key `url`; did you mean `uri`?"),
        (slipped("tools.toml", "binding =", "bindng ="), "unknown key `bindng`; did you mean `binding`?"),
        (slipped("tools.toml", "toolsets =", "toolset ="), "unknown key `toolset`; did you mean `toolsets`?"),
        (slipped("tools.toml", "max_lifetime", "maxlifetime"), "did you mean `max_lifetime`?"),
        (slipped("tools.toml", "side_effects", "side_efects"), "did you mean `side_effects`?"),
        (slipped("groups.toml", "[groups]", "[group]"), "unknown key `group`; did you mean `groups`?"),
        (slipped("policies/agents.cedar", 'Group::"writers"', 'Group::"writer"'), "did you mean `writers`?"),
        (slipped("policies/agents.cedar", 'Toolset::"repo-read"', 'Toolset::"repo-raed"'), "did you mean `repo-read`?"),
        (slipped("policies/agents.cedar", "#create_issue", "#create_isue"), "#create_issue`?"),
        (lambda folder: (folder / "tools.toml").rename(folder / "tool.toml"), "missing; is `tool.toml` meant for it?"),
        (lambda folder: (folder / "groups.toml").rename(folder / "Groups.toml"), "is `Groups.toml` meant for it?"),
        (lambda folder: (folder / "policies").rename(folder / "polices"), "is `polices` meant for it?"),
    ],
)
def test_in_a_bundle(tmp_path: Path, edit: Callable[[Path], None], reason: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(SAMPLE, folder)
    edit(folder)
    with pytest.raises(bundle.PolicyBundleError) as error:
        policy_bundle.load(folder)
    assert reason in str(error.value)
