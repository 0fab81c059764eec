"""docs/reference/bounds.md says what the code does, leaves nothing out, and its parts fit the whole."""

from __future__ import annotations

import ast
import base64
import importlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.api import pages
from broker.audit import canonical, checkpoint
from broker.audit.checkpoint import Checkpoint
from broker.audit.facts import task_facts
from broker.audit.note import NoteSigner
from broker.lease.guards import unlocked
from broker.model.entry import Entry, Kind
from broker.model.errors import FieldViolation, Hints, Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.model.task import Environment, Task, TaskState
from broker.wire.selectors import rule_to_wire
from broker.wire.status import to_status_bytes
from broker.wire.tasks import task_to_wire

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/bounds.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .+? \| ([\d,]+) ?([A-Za-z]*) \| .+ \| `([\w.]+)\.(\w+)` \|$", PAGE, re.MULTILINE)
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "h": 3_600, "days": 86_400}
BOUND = re.compile(r"_?(LONGEST|LARGEST|MOST|MAX|DEEPEST)(_[A-Z_]+)?")
AT = datetime(2030, 1, 1, tzinfo=UTC)
METADATA = 8 * 1024  # of gRPC, for all of it, and 32 bytes for each name and value
GRPC_MESSAGE = 4 * 1024 * 1024

OF_NO_CALLER = {
    # How much is remembered or done at once, which nobody notices but by the time that it takes.
    *("lease.desk._MOST_CACHED_TASKS", "lease.lookup._MOST_AT_ONCE", "access.rations._MOST_KNOWN"),
    *("store.provenance._MOST_REMEMBERED", "store.derived._MOST_HELD", "audit.readings._LONGEST_TOKEN"),
    *("store.tasks._MOST_KEPT", "store.encoding._LONGEST_REMEMBERED", "store.sole._LONGEST_NOTE"),
    *("store.gathering._MOST_MOMENTS", "workers.line._LARGEST_WORD", "workers.parent._MOST_DEATHS"),
    # Of clients and the command line, which wait or show no more.
    *("sdk.verify.feed._LONGEST_WAIT", "sdk.client.keeping._LONGEST_WAIT", "sdk.connect.patience._LONGEST_PAUSE"),
    *("cli.commands.ledger._MOST_TOLD", "cli.commands.helper._MOST_INPUT"),
    *("cli.paging._LARGEST_PAGE", "cli.unverified._LONGEST", "cli.examining._MOST_EFFECTS"),
    # What other parsers, files and formats can hold, or a step on the way to a bound that is on the page.
    *("audit.canonical._LARGEST_INTEGER", "sdk.guard.http_request._LARGEST_EXACT", "policy.request._LARGEST"),
    *(
        "policy.statements._DEEPEST",
        "model.duration._LONGEST",
        "policy.tables._MOST_SENSITIVE",
        "intent.prefixes._MOST_LAYERS",
    ),
    *("lease.release._LONGEST", "trust.workload_stream._LONGEST_DETAILS", "trust.fetch._MAX_AGE"),
    *(
        "sdk.guard.mcp.stdio._LARGEST",
        "sdk.guard.mcp.listing._LONGEST_END",
        "store.adoption._LONGEST_TOKEN",
        "web.listener._MOST_READ",
    ),
}


@pytest.mark.parametrize(("number", "unit", "module", "name"), ROWS, ids=lambda part: part)
def test_the_page_has_the_value_of_the_code(number: str, unit: str, module: str, name: str) -> None:
    value: Any = getattr(importlib.import_module(f"broker.{module}"), name)
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    assert int(number.replace(",", "")) * UNITS.get(unit, 1) == seconds


def test_the_page_leaves_no_bound_of_a_caller_out() -> None:
    found = set()
    for file in (ROOT / "broker").rglob("*.py"):
        module = ".".join(file.relative_to(ROOT / "broker").with_suffix("").parts)
        if module.startswith(("v1.", "cli.bench.", "cli.demo.")):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= {f"{module}.{name}" for name in names if BOUND.fullmatch(name)}
    written = {f"{module}.{name}" for _, _, module, name in ROWS}
    assert len(written) == len(ROWS) > 40
    assert found - written - OF_NO_CALLER == set(), "write them into docs/reference/bounds.md"
    assert OF_NO_CALLER - found == set(), "they are gone"


def largest_task() -> Task:
    """Make a task whose entry is as long as one can be, give or take a constraint."""
    constraints: list[Constraint] = []
    while True:
        constraints += [Constraint(f"/{len(constraints)}", Operator.EQ, (1,)) for _ in range(100)]
        grants = [Grant(f"t{at}", tuple(constraints[at : at + 32])) for at in range(0, len(constraints), 32)]
        tools = [
            ResourceGrants(f"https://{at}.example", tuple(grants[at : at + 64])) for at in range(0, len(grants), 64)
        ]
        task = Task(
            id="0" * 36,
            tenant="t" * 255,
            owner="o" * 256,
            purpose="p",
            environment=Environment.DEV,
            agents=("spiffe://example.org/a",),
            tools=tuple(tools),
            deadline=AT,
            risk_threshold=50,
            state=TaskState.ACTIVE,
            created_at=AT,
            created_by="spiffe://example.org/o",
            index=0,
        )
        entry = Entry(kind=Kind.TASK_CREATED, at=AT, tenant=task.tenant, task_id=task.id, asserted=task_facts(task))
        try:
            canonical.encode(entry)
        except canonical.EntryTooLong:
            return task


def test_what_fits_an_entry_fits_a_request_a_page_and_a_message() -> None:
    size = task_to_wire(largest_task()).ByteSize()
    assert size > canonical.MAX_BODY // 2
    assert size < 256 * 1024
    assert size < GRPC_MESSAGE - pages._LARGEST


def test_the_largest_rules_are_sent_in_messages_that_clients_take() -> None:
    rule = RevocationRule(
        index=2**37,
        selector=Selector("\U0001f600" * 255, Target.TOOL, f"https://{'r' * 504}#{'t' * 2_186}"),
        cause=Cause.OPERATOR,
        recorded_at=AT,
        relevant_until=AT,
    )
    sizes = [
        sum(item.ByteSize() + 8 for item in piece) for piece in pages.pieces(rule_to_wire(rule) for _ in range(3_000))
    ]
    assert len(sizes) > 1
    assert max(sizes) < GRPC_MESSAGE


def test_a_head_is_short_however_long_the_ledger() -> None:
    origin = "o" * 255
    note = NoteSigner.generate(origin).sign(checkpoint.format(Checkpoint(origin, 2**62, bytes(32))))
    assert len(note.encode()) < 1_024


class Locked:
    """A transaction in which everything is locked."""

    def __init__(self, selector: Selector) -> None:
        self.lock = type("Lock", (), {"id": "0" * 36, "selector": selector})
        self.locks = self

    def on(self, lease: object) -> object:
        return self.lock


@pytest.mark.parametrize("length", [2_048, 2_700])
def test_a_refusal_that_names_the_longest_fits_into_a_trailer(length: int) -> None:
    transaction: Any = Locked(Selector("t", Target.AGENT, "a" * length))
    lease: Any = None
    with pytest.raises(Refusal) as refused:
        unlocked(transaction, lease)
    assert trailer(refused.value) < METADATA


def test_a_refusal_with_its_fields_and_hints_fits_into_a_trailer() -> None:
    field = f"tools[{'9' * 3}].grants[{'9' * 3}].constraints[{'9' * 3}].values[{'9' * 3}]"
    refusal = Refusal(
        Reason.POLICY_DENIED,
        "policy does not permit tool `" + "t" * 128 + "`: forbidden by " + ", ".join(["`" + "p" * 128 + "`"] * 4),
        Hints(missing="tool:" + "t" * 128, next="n" * 256, policy_revision="0" * 64, decision_id="0" * 36),
        (FieldViolation(field, "d" * 512),),
    )
    assert trailer(refusal) < METADATA


def trailer(refusal: Refusal) -> int:
    """Measure a refusal as gRPC sends it: the message, and beside it the details, in base64."""
    details = base64.b64encode(to_status_bytes(refusal, 7))
    names = ("grpc-status", "grpc-message", "grpc-status-details-bin", "content-type")
    return len(refusal.message.encode()) + len(details) + sum(len(name) + 32 for name in names) + 32
