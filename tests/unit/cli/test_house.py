import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cli import cli
from broker.config.settings import load
from broker.identity.directory import Directory
from broker.keystore.folder import open_keys
from broker.model.principal import Role
from broker.sandbox.deployment import IDENTITIES, Deployment
from broker.trust.files import SvidFileSource

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_svid_of_the_development_ca_is_usable_and_its_key_private(tmp_path: Path) -> None:
    assert run("svid", "init", tmp_path / "svids").exit_code == 0
    identity = "spiffe://example.org/agent/scribe/one"
    issued = run("svid", "issue", tmp_path / "svids", "scribe", "--id", identity, "--dns", "localhost", "-o", "json")
    folder = tmp_path / "svids" / "scribe"
    shown = json.loads(run("svid", "show", folder, "-o", "json").stdout)
    assert json.loads(issued.stdout) == {"directory": str(folder), **shown}
    assert (shown["spiffe_id"], shown["dns_names"], shown["in_time"]) == (identity, ["localhost"], True)
    assert "example.org" in SvidFileSource(folder).material.trust_bundles.roots
    assert [mode(folder / "key.pem"), mode(tmp_path / "svids" / "ca-key.pem")] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["init", "{}"], 1, "holds a CA already"),
        (["issue", "{}", "x", "--id", "spiffe://other.org/x"], 1, "may not vouch"),
        (["issue", "{}", "x", "--id", "https://example.org/x"], 2, "SPIFFE ID"),
        (["issue", "{}", "../x", "--id", "spiffe://example.org/x"], 2, "letters"),
        (["issue", "{}/none", "x", "--id", "spiffe://example.org/x"], 1, "svid init"),
        (["show", "{}/ca-key.pem"], 1, "not an X.509-SVID"),
        (["show", "{}/nobody"], 2, "does not exist"),
    ],
)
def test_svid_mistakes_are_told(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    run("svid", "init", tmp_path)
    result = run("svid", *(argument.format(tmp_path) for argument in arguments))
    assert result.exit_code == code
    assert says in result.stderr


def test_keys_are_created_once_private_and_rotated(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert run("keys", "list", "--dir", folder).exit_code == 1
    assert run("keys", "create", "--dir", folder).exit_code == 0
    assert all(mode(file) == 0o600 for file in folder.iterdir())
    assert run("keys", "create", "--dir", folder).exit_code == 1
    listed = json.loads(run("keys", "rotate", "--dir", folder, "--lead", "1h", "-o", "json").stdout)["keys"]
    assert [key["state"] for key in listed] == ["signs", "next"]
    assert "PRIVATE" not in run("keys", "list", "--dir", folder).output


def test_keys_are_replaced_and_withdrawn_and_those_of_a_ledger_are_kept(tmp_path: Path) -> None:
    folder, other = tmp_path / "keys", tmp_path / "other"
    run("keys", "create", folder)
    (before,) = open_keys(folder).signers
    (listed,) = json.loads(run("keys", "replace", folder, "-o", "json").stdout)["keys"]
    assert (listed["state"], listed["kid"] != before) == ("signs", True)
    assert run("keys", "create", other, "--ledger-key", folder / "checkpoint.pem").exit_code == 0
    assert (other / "checkpoint.pem").read_bytes() == (folder / "checkpoint.pem").read_bytes()
    assert run("keys", "withdraw", other, "--kid", listed["kid"]).exit_code == 0
    assert open_keys(other).keyring.withdrawn == (listed["kid"],)
    assert run("keys", "withdraw", other, "--kid", "../checkpoint").exit_code == 2
    assert run("keys", "create", tmp_path / "third", "--ledger-key", other / "keyring.json").exit_code == 1
    for command in ("rotate", "replace"):
        assert run("keys", command, tmp_path / "none").exit_code == 1


def test_the_sample_bundle_is_good_and_a_broken_one_is_told_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    assert run("policy", "init", folder).exit_code == 0
    assert run("policy", "init", folder).exit_code == 1
    good = json.loads(run("policy", "check", folder, "-o", "json").stdout)
    assert good["ok"] is True
    agents = folder / "policies" / "agents.cedar"
    agents.write_text(agents.read_text() + "\npermit (principal, action, resource\n")
    broken = run("policy", "check", folder)
    assert broken.exit_code == 1
    assert f"{agents}:" in broken.stdout
    problems = json.loads(run("policy", "check", folder, "-o", "json").stdout)
    assert problems["ok"] is False
    assert {"file", "line", "reason"} == set(problems["problems"][0])


def test_a_database_is_upgraded_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "broker.db"
    assert run("db", "current", "--database", file).exit_code == 2
    assert not file.exists()
    assert run("db", "upgrade", "--database", file).exit_code == 0
    shown = json.loads(run("db", "current", "--database", f"sqlite:///{file}", "-o", "json").stdout)
    assert shown == {"revision": shown["newest"], "newest": shown["newest"], "up_to_date": True}
    assert run("db", "upgrade", "--database", "mysql://h/d").exit_code == 2


@pytest.mark.parametrize("command", [["db", "current"], ["db", "upgrade"], ["ledger", "verify"]])
def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all")
    result = run(*command, "--database", file)
    assert result.exit_code == 1
    assert result.stderr == "error: the database says: file is not a database\n"


def test_verifying_what_is_no_ledger_fails_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "broker.db"
    run("db", "upgrade", "--database", file)
    result = run("ledger", "verify", "--database", file)
    assert result.exit_code == 1
    assert "no ledger" in result.stderr


def test_the_sample_deployment_is_whole_and_keeps_what_is_there(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "dev")
    deployment.prepare(NOW)
    before = {file: file.read_bytes() for file in deployment.directory.rglob("*") if file.is_file()}
    deployment.prepare(NOW + timedelta(days=6))
    assert before == {file: file.read_bytes() for file in deployment.directory.rglob("*") if file.is_file()}
    assert mode(deployment.directory) == 0o700
    settings = load(deployment.configuration)
    assert open_keys(settings.keys.directory).keyring.lives
    assert settings.database_url.endswith(f"{deployment.directory}/broker.db")


def test_svids_that_soon_expire_are_made_anew_under_the_same_ca(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.prepare(NOW)
    old = (deployment.svids / "broker" / "svid.pem").read_bytes()
    bundle = (deployment.svids / "broker" / "bundle.pem").read_bytes()
    deployment.prepare(NOW + timedelta(days=6, hours=13))
    assert (deployment.svids / "broker" / "svid.pem").read_bytes() != old
    assert (deployment.svids / "broker" / "bundle.pem").read_bytes() == bundle


def test_every_sample_identity_has_a_tenant_and_a_group(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.prepare(NOW)
    directory = Directory(load(deployment.configuration).identity.rules)
    roles = {
        "orchestrator": Role.ORCHESTRATORS,
        "researcher": Role.AGENTS,
        "writer": Role.AGENTS,
        "operator": Role.OPERATORS,
        "verifier": Role.VERIFIERS,
        "notes": Role.VERIFIERS,
        "auditor": Role.AUDITORS,
    }
    assert set(roles) | {"broker"} == set(IDENTITIES)
    for name, role in roles.items():
        rule = directory.assign(f"spiffe://example.org{IDENTITIES[name][0]}")
        assert rule is not None
        assert (rule.tenant, rule.roles) == ("acme", frozenset({role}))
    root = directory.assign("spiffe://example.org/operator/root")
    assert root is not None
    assert root.tenant == "*"
    assert directory.assign("spiffe://example.org/broker") is None
