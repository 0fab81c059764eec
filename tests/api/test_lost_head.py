"""A ledger that is not what was signed is the ledger's trouble, and not a defect of the broker, whoever asks."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from broker.model.errors import Reason
from broker.v1 import auditor_service_pb2 as pb
from tests.support.doors import Doors


def sql(doors: Doors, *statements: str) -> None:
    with closing(sqlite3.connect(doors.broker.svids.parent / "broker.db", timeout=60)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("AuditorService.GetCheckpoint", pb.GetCheckpointRequest()),
        ("AuditorService.GetInclusionProof", pb.GetInclusionProofRequest(index=0)),
    ],
)
def test_while_the_head_is_gone_an_auditor_is_told_that_the_ledger_is_unavailable(
    doors: Doors, rpc: str, request_: pb.GetCheckpointRequest | pb.GetInclusionProofRequest
) -> None:
    sql(doors, "CREATE TABLE elsewhere AS SELECT * FROM ledger_head", "DELETE FROM ledger_head")
    assert doors.refused("auditor", rpc, request_).reason is Reason.LEDGER_UNAVAILABLE
    sql(doors, "INSERT INTO ledger_head SELECT * FROM elsewhere", "DROP TABLE elsewhere")
    assert doors.call("auditor", rpc, request_)
