"""AuditorService: the proof of what was asked, decided and done."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from broker.api import requests
from broker.audit import proof, tree
from broker.lease.desk import Desk
from broker.model.errors import Hints, Reason, Refusal, invalid
from broker.model.principal import ANY_TENANT, Principal
from broker.store import ledger
from broker.store.ledger import Head
from broker.v1 import auditor_service_pb2 as pb
from broker.v1 import ledger_pb2


@dataclass(frozen=True, slots=True)
class AuditorService:
    """The RPCs of auditor_service.proto. `vkey` is the key that verifies checkpoints."""

    desk: Desk
    vkey: str

    async def get_checkpoint(self, _auditor: Principal, _request: pb.GetCheckpointRequest) -> pb.GetCheckpointResponse:
        """Give the newest checkpoint."""
        head = await self.desk.database.read(_head)
        return pb.GetCheckpointResponse(checkpoint=_checkpoint(head), vkey=self.vkey)

    async def list_entries(self, auditor: Principal, request: pb.ListEntriesRequest) -> pb.ListEntriesResponse:
        """List entries."""
        page = requests.page(request)
        start = request.start_index if page.position is None else page.position
        tenant = None if auditor.tenant == ANY_TENANT else auditor.tenant
        found = await self.desk.database.read(
            lambda connection: ledger.page(connection, tenant, request.task_id or None, start, page.size)
        )
        following = page.following(found[-1].index + 1) if len(found) == page.size else ""
        entries = [ledger_pb2.LedgerEntry(index=entry.index, body=entry.body) for entry in found]
        return pb.ListEntriesResponse(entries=entries, next_page_token=following)

    async def get_inclusion_proof(
        self, _auditor: Principal, request: pb.GetInclusionProofRequest
    ) -> ledger_pb2.InclusionProof:
        """Prove that an entry is under the newest checkpoint."""

        def prove(connection: Connection) -> ledger_pb2.InclusionProof:
            head = _head(connection)
            entry = ledger.entry(connection, request.index)
            if entry is None or entry.index >= head.frontier.size:
                raise Refusal(
                    Reason.ENTRY_NOT_FOUND,
                    f"there is no entry {request.index}",
                    Hints(next=f"the ledger holds entries 0 to {head.frontier.size - 1}"),
                )
            hashes = proof.prove_inclusion(
                request.index, head.frontier.size, lambda ids: ledger.fetch_nodes(connection, ids)
            )
            return ledger_pb2.InclusionProof(
                index=request.index,
                leaf_hash=tree.leaf_hash(entry.body),
                hashes=hashes,
                checkpoint=_checkpoint(head),
            )

        return await self.desk.database.read(prove)

    async def get_consistency_proof(
        self, _auditor: Principal, request: pb.GetConsistencyProofRequest
    ) -> ledger_pb2.ConsistencyProof:
        """Prove that an earlier tree is a prefix of the newest."""

        def prove(connection: Connection) -> ledger_pb2.ConsistencyProof:
            head = _head(connection)
            size = head.frontier.size
            if not 1 <= request.first_size <= size:
                raise invalid("first_size", f"must be from 1 to {size}, the ledger's size")
            hashes = proof.prove_consistency(request.first_size, size, lambda ids: ledger.fetch_nodes(connection, ids))
            return ledger_pb2.ConsistencyProof(
                first_size=request.first_size, second_size=size, hashes=hashes, checkpoint=_checkpoint(head)
            )

        return await self.desk.database.read(prove)


def _head(connection: Connection) -> Head:
    head = ledger.head(connection)
    assert head is not None  # noqa: S101 (the daemon has started the ledger)
    return head


def _checkpoint(head: Head) -> ledger_pb2.Checkpoint:
    return ledger_pb2.Checkpoint(note=head.note, size=head.frontier.size)
