"""One parser of a presented credential: what a header or metadata may say, and what both protocols refuse alike."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.errors import Reason, Refusal
from broker.sdk.guard.presented import GRPC, HTTP, Carrier, PresentedCredential, presented

TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
CARRIERS = st.sampled_from([GRPC, HTTP])


def saying(authorization: list[str], proofs: list[str]) -> Callable[[str], list[str]]:
    return {"authorization": authorization, "dpop": proofs}.__getitem__


@given(CARRIERS, st.sampled_from(["Bearer", "bearer", "BEARER"]), TOKENS, st.lists(TOKENS))
def test_a_bearer_token_is_presented_alone(carrier: Carrier, scheme: str, token: str, proofs: list[str]) -> None:
    assert presented(carrier, saying([f"{scheme} {token}"], proofs)) == PresentedCredential(token)


@given(CARRIERS, st.sampled_from(["DPoP", "dpop"]), TOKENS, TOKENS)
def test_a_dpop_token_is_presented_with_its_proof(carrier: Carrier, scheme: str, token: str, proof: str) -> None:
    assert presented(carrier, saying([f"{scheme}  {token} "], [proof])) == PresentedCredential(token, proof)


@pytest.mark.parametrize("carrier", [GRPC, HTTP])
@pytest.mark.parametrize(
    "values", [[], [""], ["Bearer"], ["Bearer "], ["DPoP  "], ["TOKEN"], ["Basic a"], ["Bearer a", "Bearer a"]]
)
def test_there_is_exactly_one_token(carrier: Carrier, values: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        presented(carrier, saying(values, ["proof"]))
    assert refused.value.reason is Reason.TOKEN_INVALID
    assert refused.value.hints.missing == carrier.field
    assert f"{carrier.part} `{carrier.field}: Bearer TOKEN`" in refused.value.hints.next


@pytest.mark.parametrize("carrier", [GRPC, HTTP])
@pytest.mark.parametrize("proofs", [[], ["one", "two"]])
def test_a_dpop_token_comes_with_exactly_one_proof(carrier: Carrier, proofs: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        presented(carrier, saying(["DPoP token"], proofs))
    assert refused.value.reason is Reason.PROOF_INVALID
