"""AuditorService: the proof of what was asked, decided and done."""

from __future__ import annotations

from dataclasses import dataclass

from broker.api import pages, requests
from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.principal import ANY_TENANT, Principal
from broker.store import ledger, proofs
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
        head = await self.desk.database.read(proofs.newest_head)
        return pb.GetCheckpointResponse(checkpoint=_checkpoint(head), vkey=self.vkey)

    async def list_entries(self, auditor: Principal, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """List entries."""
        page = pages.page(request)
        start = request.start_index if page.position is None else page.position
        tenant = None if auditor.tenant == ANY_TENANT else auditor.tenant
        task_id = requests.required(request.task_id, "task_id") if request.task_id else None
        found = await self.desk.database.read(
            lambda connection: ledger.page(connection, tenant, task_id, start, page.size)
        )
        entries, following = page.of(found, _entry, lambda entry: entry.index + 1)
        return pb.ListEntriesResponse(entries=entries, next_page_token=following)

    async def get_inclusion_proof(
        self, _auditor: Principal, request: pb.GetInclusionProofRequest
    ) -> ledger_pb2.InclusionProof:
        """Prove that an entry is under the newest checkpoint."""
        found = await self.desk.database.read(lambda connection: proofs.prove_inclusion(connection, request.index))
        if found is None:
            raise Refusal(
                Reason.ENTRY_NOT_FOUND, f"there is no entry {request.index}", Hints(next="see the checkpoint's size")
            )
        return ledger_pb2.InclusionProof(
            index=request.index,
            leaf_hash=found.leaf_hash,
            hashes=found.hashes,
            checkpoint=_checkpoint(found.head),
            leaf=found.leaf,
        )

    async def get_consistency_proof(
        self, _auditor: Principal, request: pb.GetConsistencyProofRequest
    ) -> ledger_pb2.ConsistencyProof:
        """Prove that an earlier tree is a prefix of the newest."""
        first = request.first_size
        found = await self.desk.database.read(lambda connection: proofs.prove_consistency(connection, first))
        if found is None:
            raise invalid("first_size", "must be from 1 to the checkpoint's size")
        return ledger_pb2.ConsistencyProof(
            first_size=first,
            second_size=found.head.frontier.size,
            hashes=found.hashes,
            checkpoint=_checkpoint(found.head),
        )


def _entry(entry: StoredEntry) -> ledger_pb2.LedgerEntry:
    return ledger_pb2.LedgerEntry(index=entry.index, body=entry.body)


def _checkpoint(head: Head) -> ledger_pb2.Checkpoint:
    return ledger_pb2.Checkpoint(note=head.note, size=head.frontier.size)
