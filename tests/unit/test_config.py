"""The configuration: whatever is wrong in it is named, with the remedy."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from broker.config.settings import load
from broker.config.table import ConfigError
from broker.lease.desk import Limits
from broker.model.principal import Role

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
LEAST = """
[broker]
issuer = "https://broker.example.org"
[identity]
svid_dir = "svids/broker"
[[identity.rule]]
match = "spiffe://example.org/agent/*"
tenant = "acme"
groups = ["agents"]
[database]
url = "broker.db"
[policy]
bundle = "bundle"
[keys]
dir = "keys"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "broker.toml"
    path.write_text(text)
    return path


def test_the_least_configuration_has_sound_defaults_and_paths_beside_the_file(tmp_path: Path) -> None:
    settings = load(written(tmp_path, LEAST))
    assert settings.listen.address == "127.0.0.1:8443"
    assert settings.origin == "broker.example.org/ledger"
    assert settings.limits == Limits()
    assert settings.migrate is True
    assert (settings.policy_bundle, settings.keys.directory) == (tmp_path / "bundle", tmp_path / "keys")
    assert settings.identity.svid_dir == tmp_path / "svids" / "broker"
    assert settings.database_url.endswith(f"{tmp_path}/broker.db")
    (rule,) = settings.identity.rules
    assert rule.roles == {Role.AGENTS}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('issuer = "https://broker.example.org"', "", "broker.issuer: missing"),
        ('issuer = "https://broker.example.org"', "issuer = 3", "broker.issuer: must be a text, and is int"),
        ('issuer = "https', 'isuer = "x"\nissuer = "https', "broker.isuer: unknown key; did you mean `issuer`?"),
        ("[broker]", "[brokr]\n[broker]", "brokr: unknown key; did you mean `broker`?"),
        ("[broker]", "x = 1\n[broker]", "x: unknown key; known here:"),
        ("[broker]", "broker = 1\n[brokers]", "broker: must be a table, and is int"),
        ('url = "broker.db"', 'url = "mysql://x/y"', "database.url: the database is `mysql`"),
        ('url = "broker.db"', 'url = "://"', "database.url:"),
        ('url = "broker.db"', 'url = "sqlite://"', "database.url: names no file; write sqlite:///PATH"),
        ('url = "broker.db"', 'url = "postgresql://u@h:x/d"', "database.url: the database URL is malformed"),
        ('url = "broker.db"', 'url = ""', "database.url: must be a text that is not empty"),
        ('dir = "keys"', 'dir = "ke\\u0000ys"', "keys.dir: must hold no NUL"),
        ("[policy]", '[ledger]\norigin = "a b"\n[policy]', "ledger.origin: must be"),
        ("[policy]", '[ledger]\norigin = "a+b"\n[policy]', "ledger.origin: must be"),
        ("[policy]", f'[ledger]\norigin = "{"x" * 256}"\n[policy]', "ledger.origin: must be"),
        ('url = "broker.db"', 'url = "broker.db"\nmigrate = "yes"', "database.migrate: must be true or false"),
        ('dir = "keys"', 'dir = "keys"\nlead = "30d"', "keys.lead: must be shorter than keys.rotation"),
        ('dir = "keys"', 'dir = "keys"\nlead = "a day"', "keys.lead: `a day` is not a duration"),
        ('dir = "keys"', 'dir = "keys"\n[limits]\nlifetime = "0s"', "limits.lifetime: must be longer than nothing"),
        ('dir = "keys"', 'dir = "keys"\n[limits]\nlifetime = "999ms"', "limits.lifetime: must be at least a second"),
        ('dir = "keys"', 'dir = "keys"\n[limits]\nlifetime = "99999999999d"', "`99999999999d` is longer"),
        ('dir = "keys"', 'dir = "keys"\n[limits]\nactive_tasks = 0', "limits.active_tasks: must be a whole"),
        ('dir = "keys"', 'dir = "keys"\n[limits]\nactive_tasks = true', "limits.active_tasks: must be a whole number"),
        ('groups = ["agents"]', 'groups = ["agent"]', "identity.rule[0].groups: 'agent' is not"),
        ('groups = ["agents"]', 'groups = "agents"', "identity.rule[0].groups: must be a list of texts"),
        ('tenant = "acme"', 'tenant = "*"', "identity.rule[0].tenant: agents and orchestrators belong to one tenant"),
        ('tenant = "acme"', 'tenant = "ac\\nme"', "identity.rule[0].tenant: must be at most 255 printable characters"),
        ('tenant = "acme"', f'tenant = "{"x" * 256}"', "identity.rule[0].tenant: must be at most 255 printable"),
        ('match = "spiffe:', 'match = "https:', "identity.rule[0].match:"),
        ("[[identity.rule]]", "[identity.rule]", "identity.rule: must be a list of tables"),
        ('svid_dir = "svids/broker"', 'svid_dir = "x"\ndenied = ["thief"]', "identity.denied: `thief` is neither"),
        ("[broker]", "[broker", "broker.toml:"),
        ("[broker]", '[broker]\nissuer = "twice"', "broker.toml:"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(before: str, after: str, told: str, tmp_path: Path) -> None:
    assert before in LEAST
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, LEAST.replace(before, after, 1)))
    assert told in str(error.value)
    assert str(tmp_path / "broker.toml") in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "broker.toml")
    (tmp_path / "broker.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=re.escape("broker.toml")):
        load(tmp_path / "broker.toml")


def test_the_reference_names_every_key_and_its_example_loads(tmp_path: Path) -> None:
    text = REFERENCE.read_text()
    for field in fields(Limits):
        assert f"| `{field.name}` |" in text
    for name in re.findall(
        r'\b(?:text|texts|flag|table|tables|duration|count|path|scalars|_claim)\("(\w+)"', _source()
    ):
        assert f"`{name}`" in text or f"[{name}]" in text or f"{name}]" in text, name
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert load(written(tmp_path, example)).issuer


def _source() -> str:
    files = (Path(__file__).parents[2] / "broker" / "config").glob("*.py")
    return "\n".join(file.read_text() for file in files)
