"""Tokens that are good for one time: used twice, at two doors, by twenty at once, and after a crash."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import grpc
import pytest

from broker.model.errors import Reason
from broker.sandbox.broker import running
from broker.sdk.connect.refusals import refusal_from
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import grant_pb2, verifier_service_pb2, verifier_service_pb2_grpc
from tests.support.facade import JOB, NOTES, Facade, opened

WIF = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
NUMBERS = count(1)
Ask = Callable[[Facade, str, str], Reason | None]


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with opened(tmp_path_factory.mktemp("once"), one_time=True) as found:
        yield found


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB)


def fresh(facade: Facade, **claims: object) -> str:
    return facade.workload(**{"jti": f"token-{next(NUMBERS)}", **claims})


def over_http(facade: Facade, token: str, task_id: str) -> Reason | None:
    return posted(facade, task_id, client_assertion=token)


def by_grant(facade: Facade, token: str, task_id: str) -> Reason | None:
    return posted(facade, task_id, grant_type=WIF, assertion=token, client_assertion_type="")


def by_exchange(facade: Facade, token: str, task_id: str) -> Reason | None:
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": JWT_TYPE}
    return posted(facade, task_id, **form, client_assertion_type="")


def posted(facade: Facade, task_id: str, **form: str) -> Reason | None:
    answer = facade.token(**form, task=task_id, scope="tool:search_notes")
    if answer.status_code == 200:
        return None
    as_client = form.get("grant_type") is None
    assert (answer.status_code, answer.json()["error"]) == (
        (401, "invalid_client") if as_client else (400, "invalid_grant")
    )
    return Reason(answer.json()["reason"])


def over_grpc(facade: Facade, token: str, task_id: str) -> Reason | None:
    asked = pb.IssueCredentialRequest(task_id=task_id, resource=NOTES, grants=[grant_pb2.Grant(tool="search_notes")])
    with facade.channel() as channel:
        try:
            metadata = (("authorization", f"Bearer {token}"),)
            pb_grpc.AgentServiceStub(channel).IssueCredential(asked, metadata=metadata, timeout=60)
        except grpc.RpcError as error:
            return refusal_from(error).reason
    return None


DOORS: tuple[Ask, ...] = (over_http, over_grpc, by_grant, by_exchange)


@pytest.mark.parametrize("second", DOORS)
@pytest.mark.parametrize("first", DOORS)
def test_no_door_takes_what_another_has_taken(first: Ask, second: Ask, facade: Facade, task_id: str) -> None:
    token = fresh(facade)
    assert first(facade, token, task_id) is None
    assert second(facade, token, task_id) is Reason.ASSERTION_REPLAYED
    assert second(facade, token, task_id) is Reason.ASSERTION_REPLAYED


def test_a_token_made_anew_under_the_same_name_is_the_same(facade: Facade, task_id: str) -> None:
    assert over_http(facade, fresh(facade, jti="same"), task_id) is None
    again = fresh(facade, jti="same", more="claims")
    assert over_grpc(facade, again, task_id) is Reason.ASSERTION_REPLAYED
    other = fresh(facade, jti="same", sub="job:8")
    assert over_http(facade, other, task_id) is Reason.ASSERTION_REPLAYED, "names are the issuer's, not the subject's"


def test_a_request_that_is_refused_uses_it_up(facade: Facade, task_id: str) -> None:
    token = fresh(facade)
    assert facade.token(client_assertion=token, task=task_id, scope="tool:nothing").status_code == 400
    assert over_http(facade, token, task_id) is Reason.ASSERTION_REPLAYED


@pytest.mark.parametrize("jti", [None, "", 7, ["x"], {"x": 1}, True])
def test_without_a_name_it_cannot_be_told_and_is_refused(jti: object, facade: Facade, task_id: str) -> None:
    token = facade.workload(jti=jti)
    assert over_http(facade, token, task_id) is Reason.IDENTITY_INVALID
    assert over_grpc(facade, token, task_id) is Reason.IDENTITY_INVALID


def test_of_twenty_at_once_one_wins(facade: Facade, task_id: str) -> None:
    for _ in range(3):
        token, together = fresh(facade), threading.Barrier(20)

        def ask(number: int, token: str = token, together: threading.Barrier = together) -> Reason | None:
            door = DOORS[number % len(DOORS)]
            together.wait(10)
            return door(facade, token, task_id)

        with ThreadPoolExecutor(20) as pool:
            outcomes = list(pool.map(ask, range(20)))
        assert outcomes.count(None) == 1
        assert outcomes.count(Reason.ASSERTION_REPLAYED) == 19


def test_a_stream_goes_on_with_the_token_that_opened_it(facade: Facade) -> None:
    bearing = (("authorization", f"Bearer {fresh(facade, sub='gateway')}"),)
    with facade.channel() as channel:
        stub = verifier_service_pb2_grpc.VerifierServiceStub(channel)
        stream = stub.WatchRevocations(verifier_service_pb2.WatchRevocationsRequest(), metadata=bearing, timeout=30)
        assert [next(stream).tenant for _ in range(3)] == ["acme"] * 3
        stream.cancel()
        with pytest.raises(grpc.RpcError) as error:
            next(stub.WatchRevocations(verifier_service_pb2.WatchRevocationsRequest(), metadata=bearing, timeout=30))
    assert refusal_from(error.value).reason is Reason.ASSERTION_REPLAYED


def test_a_broker_that_was_killed_still_knows(tmp_path: Path) -> None:
    with opened(tmp_path, one_time=True) as before:
        task_id = before.begin(JOB)
        used = [fresh(before) for _ in DOORS]
        for door, token in zip(DOORS, used, strict=True):
            assert door(before, token, task_id) is None
        unused = fresh(before)
        assert before.broker.pid is not None
        os.kill(before.broker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, before.broker.pid, os.WEXITED | os.WNOWAIT)
        with running(tmp_path) as broker:
            after = replace(before, broker=broker)
            for door, token in zip(reversed(DOORS), used, strict=True):
                assert door(after, token, task_id) is Reason.ASSERTION_REPLAYED
            assert over_http(after, unused, task_id) is None
    assert "Traceback" not in (tmp_path / "broker.log").read_text()
