"""`credbroker doctor` looks at a deployment and at the way to a broker, names what is wrong, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner

from broker.cli import cli
from broker.cli.failure import Exit
from broker.identity.spiffe import parse_spiffe_id
from broker.keystore.folder import create_keys
from broker.sandbox import authority
from broker.sandbox.broker import prepare, running
from broker.store import effects
from broker.store.database import open_database
from broker.store.effects import OutsideEffect
from broker.system import system_clock
from tests.support.facade import opened

DAY = timedelta(days=1)
ISSUER = """
[[identity.issuer]]
name = "ci"
url = "https://127.0.0.1:1"
ca_file = "svids/ca.pem"

"""


def doctor(*arguments: object, **variables: str) -> tuple[int, dict[str, Mapping[str, str]]]:
    """Examine; return the exit code, and the findings by their subject."""
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("CREDBROKER_")}
    command = ["doctor", "-o", "json", *map(str, arguments)]
    done = CliRunner().invoke(cli, command, env=environment | variables)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert "PRIVATE" not in done.output
    return done.exit_code, {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}


def problems(findings: dict[str, Mapping[str, str]]) -> dict[str, str]:
    return {subject: finding["found"] for subject, finding in findings.items() if finding["state"] == "problem"}


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_found_where_nothing_is_wrong_and_nothing_is_changed(tmp_path: Path) -> None:
    configuration = prepare(tmp_path).configuration
    before = files_in(tmp_path)
    code, findings = doctor("--config", configuration)
    assert (code, problems(findings)) == (Exit.OK, {})
    assert set(findings) == {"configuration", "identity", "keys", "policy", "database", "ledger", "listen.address"}
    assert files_in(tmp_path) == before


def test_a_running_broker_is_well_and_so_is_the_way_to_it(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        broker.begin_task()
        port = broker.address.rpartition(":")[2]
        configuration = tmp_path / "broker.toml"
        configuration.write_text(configuration.read_text().replace("127.0.0.1:8443", f"127.0.0.1:{port}"))
        code, findings = doctor("--config", configuration, **broker.environment("researcher"))
        assert (code, problems(findings)) == (Exit.OK, {})
        assert f"written by process {broker.pid}" in findings["database"]["found"]
        assert f"process {broker.pid}" in findings["listen.address"]["found"]
        assert " entries; " in findings["ledger"]["found"]
        assert findings["broker"]["found"] == f"{broker.address}: TLS works both ways, and it serves"
        assert broker.begin_task()


def test_each_of_several_brokers_is_looked_at(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        where = broker.environment("researcher") | {"CREDBROKER_ADDRESS": f"localhost:1,{broker.address}"}
        code, findings = doctor(**where)
        assert code == Exit.FAILED
        assert problems(findings) == {"broker localhost:1": "nothing can be reached at localhost:1: Connection refused"}
        assert findings[f"broker {broker.address}"]["state"] == "ok"


def test_a_broker_that_does_not_serve_is_told(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        shutil.rmtree(tmp_path / "keys")
        (tmp_path / "broker.db").rename(tmp_path / "elsewhere.db")
        until = time.monotonic() + 60
        while (found := doctor(**broker.environment("researcher")))[0] == Exit.OK:
            assert time.monotonic() < until
    code, findings = found
    assert code == Exit.FAILED
    assert problems(findings) == {"broker": f"the broker at {broker.address} does not serve just now"}
    assert "health.not_serving" in findings["broker"]["next"]


def test_everything_that_is_wrong_is_told_with_its_remedy(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        broker.begin_task()
    configuration, svids = tmp_path / "broker.toml", tmp_path / "svids"
    text = configuration.read_text().replace("# The first rule", ISSUER + "# The first rule")
    configuration.write_text(text.replace("127.0.0.1:8443", "192.0.2.1:8443"))
    authority.issue(svids, "broker", parse_spiffe_id("spiffe://example.org/broker"), (), DAY, system_clock())
    create_keys(tmp_path / "others", system_clock())
    (tmp_path / "keys" / "checkpoint.pem").write_bytes((tmp_path / "others" / "checkpoint.pem").read_bytes())
    (tmp_path / "bundle" / "tools.toml").unlink()
    code, findings = doctor("--config", configuration)
    assert code == Exit.FAILED
    told = problems(findings)
    assert set(told) == {"identity", "policy", "ledger", "listen.address", "issuer ci"}
    assert "has no DNS name" in told["identity"]
    assert "tools.toml" in told["policy"]
    assert told["ledger"].count("broker.example.org/ledger+") == 2
    assert "192.0.2.1:8443" in told["listen.address"]
    assert "https://127.0.0.1:1" in told["issuer ci"]
    assert all(findings[subject]["next"] for subject in ("identity", "listen.address", "issuer ci"))


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    configuration = prepare(tmp_path).configuration
    next((tmp_path / "keys").glob("token-*.pem")).chmod(0o644)
    (tmp_path / "svids" / "broker" / "key.pem").write_bytes((tmp_path / "svids" / "writer" / "key.pem").read_bytes())
    (tmp_path / "broker.db").mkdir()
    told = problems(doctor("--config", configuration)[1])
    assert "chmod 600" in doctor("--config", configuration)[1]["keys"]["next"]
    assert "is not the key of" in told["identity"]
    assert "is a folder" in told["database"]
    (tmp_path / "broker.toml").write_text("[brokr]\n")
    code, findings = doctor("--config", configuration)
    assert (code, list(problems(findings))) == (Exit.FAILED, ["configuration"])


def test_a_database_that_is_none_or_away_is_told(tmp_path: Path) -> None:
    configuration = prepare(tmp_path).configuration
    (tmp_path / "broker.db").write_bytes(b"this is no database" * 1_000)
    told = problems(doctor("--config", configuration)[1])
    assert set(told) == {"database"}
    assert "file is not a database" in told["database"]
    text = configuration.read_text().replace("broker.db", "postgresql://u:s3cret@127.0.0.1:1/broker")
    configuration.write_text(text)
    code, findings = doctor("--config", configuration)
    assert (code, set(problems(findings))) == (Exit.FAILED, {"database"})
    assert "postgresql://u:***@127.0.0.1:1/broker" in findings["database"]["found"]
    assert "database.url" in findings["database"]["next"]


def test_issuers_that_answer_are_well(tmp_path: Path) -> None:
    with opened(tmp_path) as facade:
        code, findings = doctor("--config", tmp_path / "broker.toml", **facade.broker.environment("notes"))
        told = problems(findings)
        assert "keys" in findings["issuer ci"]["found"]
        assert not told or (code, set(told)) == (Exit.FAILED, {"listen.address"})


def test_a_client_is_told_what_is_wrong_with_its_identity_and_its_way(tmp_path: Path) -> None:
    svids = prepare(tmp_path).svids
    authority.issue(
        svids, "late", parse_spiffe_id("spiffe://example.org/x"), (), timedelta(hours=1), system_clock() - DAY
    )
    where = {"CREDBROKER_ADDRESS": "localhost:1"}
    code, findings = doctor(**where, CREDBROKER_SVID_DIR=str(svids / "late"))
    assert code == Exit.FAILED
    assert "svid.pem: expired at" in problems(findings)["client identity"]
    told = problems(doctor(**where, CREDBROKER_SVID_DIR=str(svids / "researcher"))[1])
    assert told == {"broker": "nothing can be reached at localhost:1: Connection refused"}
    assert "address is not known" in problems(doctor()[1])["client"]


def test_an_effect_that_fails_is_told_and_so_is_a_folder_that_is_none(tmp_path: Path) -> None:
    with running(tmp_path) as broker:
        broker.begin_task()
    with (tmp_path / "broker.toml").open("a", encoding="utf-8") as configuration:
        configuration.write('\n[ledger]\ncopy_checkpoints_to = "nowhere"\n')
    database = open_database(str(tmp_path / "broker.db"))
    now = system_clock()
    with database.transaction() as connection:
        effects.ask(connection, OutsideEffect(id="a.copy", kind="sample", payload={}, due_at=now))
        claimed = effects.claim(connection, "sample", now, lambda _tried: timedelta())
        assert claimed is not None
        assert effects.give_up(connection, claimed, "the disk is full", now)
    database.close()
    code, findings = doctor("--config", tmp_path / "broker.toml")
    told = problems(findings)
    assert (code, set(told)) == (Exit.FAILED, {"effect a.copy", "ledger.copy_checkpoints_to"})
    assert told["effect a.copy"] == "was given up after 1 tries: the disk is full"
    assert "nowhere: is no folder" in told["ledger.copy_checkpoints_to"]
