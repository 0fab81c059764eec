"""The sample policy bundle, those whom it knows, and a situation that it permits."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import broker.policy
from broker.config.policy_bundle import load
from broker.model.decision import Action, Situation
from broker.model.task import Environment
from broker.policy.bundle import PolicyBundle

SAMPLE = Path(broker.policy.__file__).parent / "sample"
REPO, NOTES = "https://repo.tools.example", "https://notes.tools.example"
RESEARCHER = "spiffe://example.org/agent/researcher"
WRITER = "spiffe://example.org/agent/writer"
SCRIBE = "spiffe://example.org/agent/scribe/1"
MAINTAINER = "spiffe://example.org/person/alice"
STRANGER = "spiffe://example.org/job/backup"

SITUATION = Situation(
    action=Action.ISSUE,
    principal=RESEARCHER,
    tenant="acme",
    resource=REPO,
    tools=("read_file",),
    environment=Environment.DEV,
    purpose="triage",
    owner="alice",
    risk_threshold=50,
    lifetime_seconds=0,
    renewals=0,
    age_seconds=0,
    at=datetime(2030, 1, 1, tzinfo=UTC),
)


def loaded_with(folder: Path, *policies: str) -> PolicyBundle:
    """Load the sample with these policies in place of its own."""
    copy = Path(shutil.copytree(SAMPLE, folder / "bundle"))
    for path in (copy / "policies").iterdir():
        path.unlink()
    (copy / "policies/only.cedar").write_text("\n".join(policies))
    return load(copy)
