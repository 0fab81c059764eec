"""`credbroker ledger`: the proof."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from broker.cli.database import database_option, using_database
from broker.cli.failure import Stop, stopping_on
from broker.cli.options import INDEX, Caller, config_option, limit_option, remote
from broker.cli.output import note, output_option, printable, show, show_list, wants_json
from broker.cli.paging import take
from broker.cli.render import plain
from broker.v1 import auditor_service_pb2 as pb
from broker.v1 import ledger_pb2

_COLUMNS = ("index", "at", "kind", "tenant", "task_id")
_MOST_TOLD = 20
_LABEL = "a model's own words: context, never authority"


@click.group()
def ledger() -> None:
    """Read the ledger, and prove that nobody altered it. For workloads of the group "auditors"."""


@ledger.command()
@click.option(
    "--vkey-out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the key in this file; if it holds another, say so and stop.",
)
@remote
def checkpoint(caller: Caller, vkey_out: Path | None) -> None:
    """Show the newest checkpoint and the key that verifies it. Keep both: they are what the future is held to.

    \b
    credbroker ledger checkpoint --vkey-out ledger.vkey
    """
    from broker.cli.calls import as_auditor

    with as_auditor(caller) as broker:
        answer = broker.GetCheckpoint(pb.GetCheckpointRequest(), timeout=caller.timeout)
    if vkey_out is not None:
        _keep(answer.vkey, vkey_out)
    if wants_json():
        show({**plain(answer.checkpoint), "vkey": answer.vkey})
        return
    show({"size": answer.checkpoint.size, "vkey": answer.vkey})
    for line in ["", *answer.checkpoint.note.splitlines()]:
        click.echo(printable(line))


def _keep(vkey: str, file: Path) -> None:
    """Write a key to a file, where no other is kept: the first that was seen is the one to trust."""
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(vkey + "\n")
    except FileExistsError:
        if _key(str(file)) != vkey:
            raise Stop(f"`{file}` holds another key than the broker's, `{vkey}`: ask whose ledger it is") from None


@ledger.command()
@click.option("--from", "start", type=INDEX, default=0, show_default=True, help="From this index on.")
@click.option("--task", "task_id", default="", metavar="TASK", help="Only entries about this task.")
@limit_option
@remote
def entries(caller: Caller, start: int, task_id: str, limit: int) -> None:
    """List entries by ascending index.

    \b
    credbroker ledger entries --task 0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40 -o json
    """
    from broker.cli.calls import as_auditor

    with as_auditor(caller) as broker:

        def page(size: int, token: str) -> tuple[list[ledger_pb2.LedgerEntry], str]:
            request = pb.ListEntriesRequest(start_index=start, task_id=task_id, page_size=size, page_token=token)
            answer = broker.ListEntries(request, timeout=caller.timeout)
            return list(answer.entries), answer.next_page_token

        found, more = take(limit, page)
    show_list("entries", [_entry(entry) for entry in found], _COLUMNS, more=more)
    if more:
        note(f"there are more: --from {found[-1].index + 1}")


def _entry(entry: ledger_pb2.LedgerEntry) -> dict[str, Any]:
    return {"index": entry.index, **json.loads(entry.body)}


@ledger.command()
@click.argument("index", type=INDEX)
@click.option("--vkey", metavar="KEY|FILE", help="The verifier key that you trust; without: the one the broker names.")
@remote
def prove(caller: Caller, index: int, vkey: str | None) -> None:
    """Show the proof that an entry is under the newest checkpoint, after checking it here.

    \b
    credbroker ledger prove 42 --vkey ledger.vkey -o json
    """
    from broker.cli.calls import as_auditor

    with as_auditor(caller) as broker:
        proof = broker.GetInclusionProof(pb.GetInclusionProofRequest(index=index), timeout=caller.timeout)
        key = _key(vkey) or broker.GetCheckpoint(pb.GetCheckpointRequest(), timeout=caller.timeout).vkey
    _check(proof, index, key)
    shown = {**plain(proof), "vkey": key, "verified": True}
    show(shown if wants_json() else {**shown, "checkpoint": {"size": proof.checkpoint.size}})


def _check(proof: ledger_pb2.InclusionProof, index: int, vkey: str) -> None:
    from broker.audit import checkpoint
    from broker.audit.note import VerifierKey, verify_note
    from broker.audit.proof import verify_inclusion

    try:
        head = checkpoint.parse(verify_note(proof.checkpoint.note, VerifierKey.parse(vkey)))
    except ValueError as error:
        raise Stop(f"the checkpoint does not verify: {error}") from None
    if not verify_inclusion(proof.leaf_hash, proof.leaf, head.size, list(proof.hashes), head.root):
        raise Stop(f"the proof does not lead from entry {index} to the checkpoint's root")


@ledger.command()
@click.argument("index", type=INDEX)
@remote
def explanation(caller: Caller, index: int) -> None:
    """Show what a model said about itself when it asked for a credential, after holding it against the entry.

    These are a model's own words: context, never authority. No decision has seen them, and nothing says that they are
    true. They are deleted after the retention time; the entry's commitment to them stays.

    \b
    credbroker ledger explanation 42
    """
    from broker.audit import canonical
    from broker.cli.calls import as_auditor

    with as_auditor(caller) as broker:
        words = broker.GetExplanation(pb.GetExplanationRequest(index=index), timeout=caller.timeout)
        request = pb.ListEntriesRequest(start_index=index, page_size=1)
        (entry,) = broker.ListEntries(request, timeout=caller.timeout).entries
    committed = json.loads(entry.body)["asserted"].get("explanation")
    if committed != canonical.commit(words.salt, words.text):
        raise Stop(f"what is kept beside entry {index} is not what the entry commits to: somebody has altered it")
    show({"index": index, "said_by_a_model": words.text, "salt": words.salt.hex(), "is": _LABEL, "matches_entry": True})


@ledger.command()
@database_option
@click.option("--vkey", metavar="KEY|FILE", help="The verifier key that you trust, or a file with it.")
@click.option(
    "--checkpoint",
    "kept",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that you have kept: the ledger must go on from it.",
)
@output_option
def verify(database: str, vkey: str | None, kept: Path | None) -> None:
    """Recompute everything from a database, and name what was altered. Exits 1 if anything was.

    Entries, their tree and signature; and every row of tasks, leases, rules, locks and explanations, held against the
    entries that it comes from. Without --vkey the key in the database is taken: that finds damage, but not somebody who
    made all of it anew. Without --checkpoint nobody can tell the newest database from an older copy of it.

    \b
    credbroker ledger verify --database /var/lib/credbroker/broker.db --vkey ledger.vkey --checkpoint kept.note
    """
    from broker.store.verification import verify as recompute

    with using_database(database, exists=True), stopping_on(ValueError), _progress() as progress:
        report = recompute(database, _key(vkey), progress, None if kept is None else _note(kept))
    findings = [{"index": finding.index, "problem": finding.problem} for finding in report.findings]
    shown = {
        "ok": report.ok,
        "size": report.size,
        "vkey": report.vkey,
        "trusted": report.trusted,
        "checkpoint": report.kept_size,
        "unknown": report.unknown(),
    }
    show({**shown, "findings": findings} if wants_json() else shown)
    if not report.ok:
        told = "\n  ".join(finding.problem for finding in report.findings[:_MOST_TOLD])
        raise Stop(f"the ledger does not verify: {len(findings)} findings\n  {told}")


def _note(path: Path) -> str:
    """Read a signed note: alone, or as `ledger checkpoint -o json` prints it."""
    text = path.read_text(encoding="utf-8")
    try:
        return str(json.loads(text)["note"])
    except (ValueError, KeyError, TypeError):
        return text


def _key(text: str | None) -> str | None:
    """Take a key as it is, or from a file of that name."""
    if text is not None and Path(text).is_file():
        return Path(text).read_text(encoding="utf-8").strip()
    return text


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@ledger.command()
@config_option("The broker's configuration, with a new ledger.origin.")
@click.option("--reason", required=True, help="Why, for the ledger.")
@click.option(
    "--checkpoint",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A checkpoint that somebody has kept: indexes go on beyond it. May be repeated.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def adopt(config: Path, reason: str, kept: tuple[Path, ...], yes: bool) -> None:  # noqa: FBT001 (a flag of the command)
    """Go on with a ledger whose newest entries are lost, under another origin.

    For a broker that does not start, since the database is behind what it has signed, and no newer one is to be had. It
    goes on from the head that is left: everything issued before is dead, every task is ended, and everything is locked
    until an operator lifts the lock. The token keys are replaced. Stop all brokers of the ledger first.

    \b
    credbroker ledger adopt --config /etc/credbroker/broker.toml --reason "restored last night's backup"
    """
    from broker.cli.adoption import run

    show(run(config, reason, kept, sure=yes))
