"""A client with a key gets credentials that are bound to it, and shows fresh proofs to broker and tool server."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant
from broker.sdk.client.client import Client
from broker.sdk.client.credential import Credential
from broker.sdk.client.sync import SyncClient
from broker.sdk.connect.endpoint import Endpoint
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.support.facade import NOTES, REPO, RESEARCHER, VAULT, Facade

GRANTS = [Grant("search_notes")]
URL = f"{VAULT}/notes"


def client(facade: Facade, key: EcSigner | None) -> Client:
    return Client(facade.broker.address, facade.broker.svids / "researcher", holder_key=key, issuer=facade.url)


def presented(headers: dict[str, str], method: str = "POST", url: str = URL) -> tuple[str, Presentation]:
    scheme, _, token = headers["authorization"].partition(" ")
    assert scheme == "DPoP"
    return token, Presentation(proof=headers["dpop"], method=method, url=url)


def check(verifier: Verifier, headers: dict[str, str]) -> str:
    token, found = presented(headers)
    return verifier.check(token, "search_notes", {}, found).lease_id


def endpoint(facade: Facade) -> Endpoint:
    return Endpoint.of(facade.broker.address, facade.broker.svids / "verifier")


async def test_each_request_gets_a_proof_of_its_own(facade: Facade) -> None:
    task_id, key = facade.begin(RESEARCHER), EcSigner.generate()
    async with (
        watching(Verifier(VAULT), endpoint(facade)) as verifier,
        client(facade, key) as agent,
        agent.credential(task_id, VAULT, GRANTS) as credential,
    ):
        first = credential.headers("POST", f"{URL}?limit=5#top")
        assert check(verifier, first) == credential.lease_id
        with pytest.raises(Refusal) as replayed:
            check(verifier, first)
        assert replayed.value.reason is Reason.PROOF_INVALID
        assert check(verifier, credential.headers("POST", URL)) == credential.lease_id
        for elsewhere in (credential.headers("GET", URL), credential.headers("POST", f"{VAULT}/other")):
            with pytest.raises(Refusal) as refused:
                check(verifier, elsewhere)
            assert refused.value.reason is Reason.PROOF_INVALID


async def test_a_renewed_token_needs_proofs_of_the_same_key(facade: Facade) -> None:
    task_id, key = facade.begin(RESEARCHER), EcSigner.generate()
    async with watching(Verifier(VAULT), endpoint(facade)) as verifier, client(facade, key) as agent:
        credential = await agent.issue(task_id, VAULT, GRANTS)
        before = credential.headers("POST", URL)
        await agent.renew(credential)
        after = credential.headers("POST", URL)
        assert check(verifier, after) == credential.lease_id
        with pytest.raises(Refusal) as mixed:
            check(verifier, {**after, "dpop": before["dpop"]})
        assert mixed.value.reason is Reason.PROOF_INVALID, "a proof is for one token"
        assert credential.prover is not None
        thief = Credential(
            lease_id=credential.lease_id,
            resource=VAULT,
            token=credential.token,
            expires_at=credential.expires_at,
            prover=type(credential.prover)(EcSigner.generate(), credential.prover.clock, credential.prover.ids),
        )
        with pytest.raises(Refusal) as refused:
            check(verifier, thief.headers("POST", URL))
        assert refused.value.reason is Reason.HOLDER_MISMATCH


async def test_a_nonce_goes_into_the_proof(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    async with (
        watching(Verifier(VAULT, nonce_key=b"key of a test of at least 32 bytes"), endpoint(facade)) as verifier,
        client(facade, EcSigner.generate()) as agent,
    ):
        credential = await agent.issue(task_id, VAULT, GRANTS)
        with pytest.raises(Refusal) as refused:
            check(verifier, credential.headers("POST", URL))
        assert refused.value.reason is Reason.PROOF_NONCE_REQUIRED
        assert check(verifier, credential.headers("POST", URL, verifier.nonce())) == credential.lease_id


async def test_a_resource_of_bearers_gets_what_is_bound_and_one_of_identities_does_not(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    async with client(facade, EcSigner.generate()) as agent:
        notes = await agent.issue(task_id, NOTES, GRANTS)
        assert notes.headers("POST", NOTES).keys() == {"authorization", "dpop"}
        repo = await agent.issue(task_id, REPO, [Grant("read_file")])
        assert repo.headers("POST", REPO) == {"authorization": f"Bearer {repo.token.reveal()}"}


def test_threads_have_the_same_proofs(facade: Facade) -> None:
    task_id, key = facade.begin(RESEARCHER), EcSigner.generate()
    svid = facade.broker.svids / "researcher"
    with SyncClient(facade.broker.address, svid, holder_key=key, issuer=facade.url) as agent:
        credential = agent.issue(task_id, VAULT, GRANTS)
        assert credential.headers("GET", URL).keys() == {"authorization", "dpop"}
        assert credential.headers("GET", URL) != credential.headers("GET", URL)
        secrets = (credential.token.reveal(), credential.headers("GET", URL)["dpop"])
        assert not any(secret in repr(credential) for secret in secrets)
        assert "EllipticCurve" not in repr(credential)


async def test_without_a_key_there_is_no_credential_for_a_resource_that_asks_for_one(facade: Facade) -> None:
    task_id = facade.begin(RESEARCHER)
    async with client(facade, None) as agent:
        with pytest.raises(Refusal) as refused:
            await agent.issue(task_id, VAULT, GRANTS)
    assert refused.value.reason is Reason.HOLDER_UNPROVEN


async def test_proofs_are_for_the_broker_that_is_called(facade: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDBROKER_ISSUER", raising=False)
    where = (facade.broker.address, Path(facade.broker.svids / "researcher"))
    with pytest.raises(Refusal) as unknown:
        Client(*where, holder_key=EcSigner.generate())
    assert "CREDBROKER_ISSUER" in unknown.value.hints.next
    monkeypatch.setenv("CREDBROKER_ISSUER", "https://other.example")
    task_id = facade.begin(RESEARCHER)
    async with Client(*where, holder_key=EcSigner.generate()) as agent:
        with pytest.raises(Refusal) as refused:
            await agent.issue(task_id, VAULT, GRANTS)
    assert refused.value.reason is Reason.PROOF_INVALID
