"""What may be shown of an identity, a token and a proof of the greatest length, gets through a listener every time."""

from __future__ import annotations

from typing import Any

from broker.model import compact_jws
from broker.v1 import orchestrator_service_pb2 as pb
from tests.support.doors import Doors

CALLS = 60  # gRPC turns a part of what is above its soft limit away, at random


def test_the_longest_token_and_proof_are_never_turned_away_by_the_listener(doors: Doors) -> None:
    path = "/broker.v1.OrchestratorService/ListTasks"
    call: Any = doors.channel("orchestrator").unary_unary(path, None, pb.ListTasksResponse.FromString)
    metadata = (("authorization", "Bearer " + "t" * compact_jws.LONGEST), ("dpop", "p" * compact_jws.LONGEST))
    answers = [call(b"", metadata=metadata, timeout=60) for _ in range(CALLS)]
    assert len(answers) == CALLS
