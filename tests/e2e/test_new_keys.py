"""An issuer has new keys: a good token is found, or told when to come again; a forged one is called so."""

from __future__ import annotations

import itertools
import time

import grpc
import httpx2
import pytest

from broker.model.errors import Reason
from broker.sdk.connect.refusals import refusal_from
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import grant_pb2
from tests.support.facade import JOB, NOTES, Facade


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB)


def ask(facade: Facade, token: str, task_id: str) -> httpx2.Response:
    """Ask for a credential, and come again when told to."""
    while (answer := facade.token(client_assertion=token, task=task_id)).status_code == 503:
        assert f"try again in {answer.headers['retry-after']} seconds" in answer.json()["error_description"]
        time.sleep(int(answer.headers["retry-after"]))
    return answer


def flood(facade: Facade) -> list[httpx2.Response]:
    """Send tokens with unknown keys, until they are told to come again."""
    sent = (facade.token(client_assertion=facade.issuer.token(facade.url, {"kid": f"x{n}"})) for n in range(1_000))
    return list(itertools.takewhile(lambda answer: answer.status_code != 503, sent))


def test_keys_that_are_rolled_again_and_again_are_found(facade: Facade, task_id: str) -> None:
    before = facade.workload()
    for kid in ("r1", "r2", "r3"):
        facade.issuer.roll(kid)
        assert ask(facade, facade.workload(), task_id).status_code == 200
    assert ask(facade, before, task_id).status_code == 200


def test_a_flood_of_unknown_keys_makes_a_new_one_wait_and_not_wrong(facade: Facade, task_id: str) -> None:
    before = facade.issuer.key_sets_given
    called_wrong = flood(facade)
    assert {answer.status_code for answer in called_wrong} <= {401}
    assert facade.issuer.key_sets_given - before <= len(called_wrong) + 1 < 1_000
    facade.issuer.roll("new")
    good = facade.workload()
    with facade.channel() as channel:
        asked = pb.IssueCredentialRequest(
            task_id=task_id, resource=NOTES, grants=[grant_pb2.Grant(tool="search_notes")]
        )
        try:
            pb_grpc.AgentServiceStub(channel).IssueCredential(
                asked, metadata=(("authorization", f"Bearer {good}"),), timeout=60
            )
        except grpc.RpcError as error:  # unless ten seconds have passed meanwhile
            refusal = refusal_from(error)
            assert refusal.reason is Reason.UNAVAILABLE
            assert 0 < refusal.hints.retry_seconds <= 10
    assert ask(facade, good, task_id).status_code == 200


def test_a_forged_signature_is_called_wrong_however_often_it_comes(facade: Facade, task_id: str) -> None:
    ask(facade, facade.workload(), task_id)
    head, _, signature = facade.workload().split(".")
    forged = f"{head}.{facade.workload(sub='job:8').split('.')[1]}.{signature}"
    flood(facade)
    for _ in range(20):
        answer = facade.token(client_assertion=forged, task=task_id)
        assert (answer.status_code, answer.json()["reason"]) == (401, "IDENTITY_INVALID")
