"""Tokens that are bound to a key: what is asked for with them, and what comes of them, needs proofs of that key."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from broker.credential import dpop
from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock, uuid7
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import verifier_service_pb2, verifier_service_pb2_grpc
from tests.support.facade import REPO, SAFE, VAULT, Facade
from tests.support.issuer import compact
from tests.support.oauth import EXCHANGE, JWT_TYPE, WIF, asking, issue, payload

# Holders.


def made_for(facade: Facade, key: EcSigner, path: str, jti: str = "") -> str:
    request = dpop.ProvenRequest(method="POST", url=facade.url + path)
    return dpop.make(key, request, jti=jti or uuid7(), at=system_clock())


def test_a_resource_that_binds_to_keys_gives_no_token_without_a_proof(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    asked = {"client_assertion": facade.workload(), "task": task_id, "resource": VAULT}
    assert facade.token(**asked).json()["error"] == "invalid_dpop_proof"
    proof = {"dpop": made_for(facade, key, "/token")}
    answer = facade.token(proof, **asked).json()
    assert answer["token_type"] == "DPoP"
    assert json.loads(payload(answer["access_token"]))["cnf"] == {"jkt": key.kid}
    again = facade.token(proof, **asked).json()
    assert (again["error"], again["reason"]) == ("invalid_dpop_proof", "PROOF_INVALID")
    for wrong in (made_for(facade, key, "/revoke"), "x", proof["dpop"] + "x"):
        assert facade.token({"dpop": wrong}, **asked).json()["error"] == "invalid_dpop_proof"


def test_a_proof_over_grpc_binds_as_well(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    proof = made_for(facade, key, "/broker.v1.AgentService/IssueCredential")
    answer = issue(facade, facade.workload(), asking(task_id, VAULT), ("dpop", proof))
    assert (answer.lease.confirmation, answer.lease.binding) == (key.kid, 3)
    with pytest.raises(Refusal) as refusal:
        issue(facade, facade.workload(), asking(task_id, VAULT), ("dpop", proof))
    assert refusal.value.reason is Reason.PROOF_INVALID


def bound_to(key: EcSigner) -> dict[str, Any]:
    return {"cnf": {"jkt": key.kid}}


def test_a_token_of_the_callers_that_is_bound_to_a_key_is_good_with_a_proof_of_it_alone(
    facade: Facade, task_id: str
) -> None:
    key, other = EcSigner.generate(), EcSigner.generate()
    for token in (facade.workload(**bound_to(key)), facade.jwt_svid(**bound_to(key))):
        for grant in (
            {"client_assertion": token},
            {"grant_type": WIF, "assertion": token, "client_assertion_type": ""},
            {
                "grant_type": EXCHANGE,
                "subject_token": token,
                "subject_token_type": JWT_TYPE,
                "client_assertion_type": "",
            },
        ):
            for proof in (None, made_for(facade, other, "/token"), made_for(facade, key, "/introspect")):
                refused = facade.token({"dpop": proof} if proof else {}, **grant, task=task_id)
                assert (refused.status_code, refused.json()["reason"]) == (400, "PROOF_INVALID")
            answer = facade.token({"dpop": made_for(facade, key, "/token")}, **grant, task=task_id)
            assert answer.status_code == 200, answer.text
            assert answer.json()["token_type"] == "DPoP"


def test_over_grpc_a_bound_token_is_good_with_a_proof_of_its_key_alone(facade: Facade, task_id: str) -> None:
    key, other, path = EcSigner.generate(), EcSigner.generate(), "/broker.v1.AgentService/IssueCredential"
    token = facade.workload(**bound_to(key))
    for proof in (None, made_for(facade, other, path), made_for(facade, key, "/token")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, token, asking(task_id), *([("dpop", proof)] if proof else []))
        assert refusal.value.reason is Reason.PROOF_INVALID
    assert issue(facade, token, asking(task_id), ("dpop", made_for(facade, key, path))).lease.confirmation == key.kid


def test_who_looks_tokens_up_must_have_the_key_of_its_own_token_too(facade: Facade, task_id: str) -> None:
    key = EcSigner.generate()
    token = facade.token(client_assertion=facade.workload(), task=task_id).json()["access_token"]
    gateway = facade.workload(sub="gateway", **bound_to(key))
    headers = {"authorization": f"Bearer {gateway}"}
    assert facade.http.post("/introspect", data={"token": token}, headers=headers).json()["reason"] == "PROOF_INVALID"
    headers["dpop"] = made_for(facade, key, "/introspect")
    assert facade.http.post("/introspect", data={"token": token}, headers=headers).json()["active"]
    request = verifier_service_pb2.IntrospectCredentialRequest(token=token)
    with facade.channel() as channel:
        call = verifier_service_pb2_grpc.VerifierServiceStub(channel).IntrospectCredential
        bearing = ("authorization", f"Bearer {gateway}")
        with pytest.raises(grpc.RpcError) as error:
            call(request, metadata=(bearing,), timeout=60)
        assert refusal_from(error.value).reason is Reason.PROOF_INVALID
        proof = made_for(facade, key, "/broker.v1.VerifierService/IntrospectCredential")
        assert call(request, metadata=(bearing, ("dpop", proof)), timeout=60).active


def test_what_is_bound_to_tls_is_not_for_callers_without_it(facade: Facade, task_id: str) -> None:
    for resource, tool in ((REPO, "read_file"), (SAFE, "search_notes")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, facade.workload(), asking(task_id, resource, tool))
        assert refusal.value.reason is Reason.HOLDER_UNPROVEN
    assert issue(facade, facade.jwt_svid(), asking(task_id, REPO, "read_file")).token, "its X.509-SVID is the holder's"
    bound = facade.doors.call("researcher", "AgentService.IssueCredential", asking(task_id, SAFE))
    assert set(json.loads(payload(bound.token))["cnf"]) == {"x5t#S256"}


# The listener for tokens.


def test_over_grpc_the_same_tokens_are_refused(facade: Facade, task_id: str) -> None:
    forged = compact(facade.svid_key, {"alg": "ES256", "kid": "svid"}, {"sub": "spiffe://other.example/x"})
    year = facade.workload(exp=int(system_clock().timestamp()) + 31_536_000)
    for token in (forged, year, "x", facade.issuer.token("https://other.example")):
        with pytest.raises(Refusal) as refusal:
            issue(facade, token, asking(task_id))
        assert refusal.value.reason is Reason.IDENTITY_INVALID
    with facade.channel() as channel, pytest.raises(grpc.RpcError) as error:
        pb_grpc.AgentServiceStub(channel).IssueCredential(asking(task_id), timeout=60)
    assert refusal_from(error.value).reason is Reason.IDENTITY_MISSING


def test_a_stream_ends_with_the_token_that_opened_it(facade: Facade) -> None:
    token = facade.workload(sub="gateway", exp=int(system_clock().timestamp()) + 2)
    bearing = (("authorization", f"Bearer {token}"),)
    with facade.channel() as channel:
        stub = verifier_service_pb2_grpc.VerifierServiceStub(channel)
        stream = stub.WatchRevocations(verifier_service_pb2.WatchRevocationsRequest(), metadata=bearing, timeout=60)
        with pytest.raises(grpc.RpcError) as error:
            list(stream)
    assert refusal_from(error.value).reason is Reason.IDENTITY_EXPIRED
