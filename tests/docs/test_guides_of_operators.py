"""The guides for operators, auditors and policy authors, word by word, against one `credbroker dev`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config import policy_bundle
from broker.policy import bundle
from broker.sandbox.ports import free_port
from tests.support.pages import ROOT, blocks, section
from tests.support.terminal import developing, typed

GUIDES = ROOT / "docs" / "how-to"
ON_THE_PATH = f"export PATH={Path(sys.executable).parent}:$PATH"
TOOL = "'https://repo.tools.example#read_file'"
TASK = f"""CREDBROKER_SVID_DIR=broker-dev/svids/orchestrator credbroker task create --owner o --purpose p \
    --environment dev --agent spiffe://example.org/agent/researcher --tool {TOOL} --lifetime 1h -o json"""


class Place:
    """A folder with a running broker, and its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._at = [ON_THE_PATH, f"export CREDBROKER_ADDRESS=localhost:{port} CREDBROKER_TENANT=acme"]
        self._port = port

    def type(self, *commands: str) -> list[tuple[str, str]]:
        """Type commands, at a prompt where the broker is known."""
        return typed(self.folder, [*self._at, *commands])[len(self._at) :]

    def commands(self, page: str, many: int) -> list[str]:
        """The commands of a guide's first blocks, for this broker."""
        text = section(GUIDES / page).replace("localhost:8443", f"localhost:{self._port}")
        shown = [block for block in blocks(text) if block.language == "console"]
        return [command for block in shown[:many] for command in block.commands()]

    def begin(self) -> str:
        """Declare a task for the researcher; give its id."""
        return str(json.loads(self.type(TASK)[0][1])["task_id"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, port = tmp_path_factory.mktemp("guides"), free_port()
    with developing(folder, port):
        yield Place(folder, port)


def test_end_revoke_and_lock(place: Place) -> None:
    task, other = place.begin(), place.begin()
    researcher = "CREDBROKER_SVID_DIR=broker-dev/svids/researcher"
    place.type(f"{researcher} credbroker credential issue --task {other} --tool {TOOL} --out token")
    commands = [
        command.replace("TASK_ID", task).replace("--token -", "--token - < token")  # where a person pastes it
        for command in place.commands("end-and-revoke.md", 5)
    ]
    before, deleting = [c for c in commands if "LOCK_ID" not in c], [c for c in commands if "LOCK_ID" in c]
    printed = place.type(*before)
    (lock,) = (output for command, output in printed if "lock create" in command)
    lock_id = re.search(r"lock_id +(\S+)", lock)
    assert lock_id
    for command in deleting:
        place.type(before[0], command.replace("LOCK_ID", lock_id[1]))
    assert not [output for _, output in printed if "warning:" in output]
    leases = json.loads(place.type(before[0], "credbroker lease list -o json")[1][1])["leases"]
    assert [lease["state"] for lease in leases] == ["revoked"]


def test_verify_the_ledger(place: Place) -> None:
    printed = place.type(*place.commands("verify-the-ledger.md", 1))
    assert re.search(r"trusted +yes", printed[-1][1])
    assert (place.folder / "ledger.vkey").read_text().count("+") >= 2


def test_rotate_keys(place: Place) -> None:
    *rotating, replacing = place.commands("rotate-keys.md", 2)
    (*_, (_, listed)) = place.type(*rotating)
    assert re.findall(r"  (signs|next|retiring)  ", listed) == ["signs", "next"]
    shutil.copytree(place.folder / "broker-dev" / "keys", place.folder / "stolen")  # others ask this broker for tokens
    ((_, listed),) = place.type(replacing.replace("broker-dev/keys", "stolen"))
    assert re.findall(r"  (signs|next|retiring)  ", listed) == ["signs"]


def test_start_a_bundle(place: Place) -> None:
    init, check = place.commands("write-a-policy.md", 1)
    ((_, checked),) = place.type(init, check)[1:]
    assert re.search(r"ok +yes", checked)


def test_the_policies_of_the_guide_fit_the_sample(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(Path(bundle.__file__).parent / "sample", folder)
    for file in (folder / "policies").iterdir():
        file.unlink()
    shown = [block.text for block in blocks(section(GUIDES / "write-a-policy.md")) if block.language == "cedar"]
    (folder / "policies" / "shown.cedar").write_text("\n".join(shown))
    assert len(policy_bundle.load(folder).policies) == len(shown) >= 2
