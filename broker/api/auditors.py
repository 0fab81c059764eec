"""AuditorService: the proof of what was asked, decided and done."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import pages, requests
from broker.lease import views
from broker.lease.desk import Desk
from broker.model.principal import Principal
from broker.store.ledger import Head, StoredEntry
from broker.v1 import auditor_service_pb2 as pb
from broker.v1 import ledger_pb2


@dataclass(frozen=True, slots=True)
class AuditorService:
    """The RPCs of auditor_service.proto. `vkey` is the key that verifies checkpoints."""

    desk: Desk
    vkey: str

    async def get_checkpoint(self, _auditor: Principal, _request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        """Return the newest checkpoint."""
        head = await views.checkpoint(self.desk)
        return pb.GetCheckpointResponse(checkpoint=_checkpoint(head), vkey=self.vkey)

    async def list_entries(self, auditor: Principal, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """List entries."""
        page = pages.page(request)
        start = request.start_index if page.position is None else page.position
        task_id = requests.required(request.task_id, "task_id") if request.task_id else None
        stored = await views.entries(self.desk, auditor, task_id, start, page.size)
        entries, following = page.of(stored, _entry, lambda entry: entry.index + 1)
        return pb.ListEntriesResponse(entries=entries, next_page_token=following)

    async def get_inclusion_proof(
        self, _auditor: Principal, request: pb.GetInclusionProofRequest
    ) -> ledger_pb2.InclusionProof:
        """Prove that an entry is under the newest checkpoint."""
        proof = await views.inclusion(self.desk, request.index)
        return ledger_pb2.InclusionProof(
            index=request.index,
            leaf_hash=proof.leaf_hash,
            hashes=proof.hashes,
            checkpoint=_checkpoint(proof.head),
            leaf=proof.leaf,
        )

    async def get_consistency_proof(
        self, _auditor: Principal, request: pb.GetConsistencyProofRequest
    ) -> ledger_pb2.ConsistencyProof:
        """Prove that an earlier tree is a prefix of the newest."""
        proof = await views.consistency(self.desk, request.first_size)
        return ledger_pb2.ConsistencyProof(
            first_size=request.first_size,
            second_size=proof.head.frontier.size,
            hashes=proof.hashes,
            checkpoint=_checkpoint(proof.head),
        )

    async def get_explanation(self, auditor: Principal, request: pb.GetExplanationRequest) -> pb.Explanation:
        """Return what a model said about itself, beside an entry."""
        words = await views.explanation(self.desk, auditor, request.index)
        return pb.Explanation(index=request.index, salt=words.salt, text=words.text, matches_entry=words.matches_entry)


def _entry(entry: StoredEntry) -> ledger_pb2.LedgerEntry:
    return ledger_pb2.LedgerEntry(index=entry.index, body=entry.body)


def _checkpoint(head: Head) -> ledger_pb2.Checkpoint:
    return ledger_pb2.Checkpoint(note=head.note, size=head.frontier.size)
