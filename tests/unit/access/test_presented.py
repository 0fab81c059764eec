"""What a call presents is parsed the same at every door, and never in two ways."""

from __future__ import annotations

import pytest

from broker.access.presented import PresentedIdentity, PresentedProof, bearer_token, proof_of_key
from broker.model.errors import Reason, Refusal

URL = "https://broker.example/token"


@pytest.mark.parametrize(
    ("values", "token"),
    [([], ""), (["Bearer abc"], "abc"), (["bearer  abc "], "abc"), (["BEARER abc"], "abc"), (["Bearer "], "")],
)
def test_one_bearer_token_is_taken(values: list[str], token: str) -> None:
    assert bearer_token(values) == token


@pytest.mark.parametrize("values", [["abc"], ["Basic abc"], ["DPoP abc"], [""], ["Bearer a", "Bearer b"], ["Bearer"]])
def test_anything_else_is_refused(values: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        bearer_token(values)
    assert refused.value.reason is Reason.IDENTITY_INVALID
    assert "abc" not in str(refused.value)


def test_one_proof_is_taken_for_the_url_that_was_called() -> None:
    assert proof_of_key([], URL) is None
    assert proof_of_key(["p"], URL) == PresentedProof("p", "POST", URL)
    with pytest.raises(Refusal) as refused:
        proof_of_key(["p", "p"], URL)
    assert refused.value.reason is Reason.PROOF_INVALID


def test_a_token_is_not_shown() -> None:
    assert "eyJ" not in repr(PresentedIdentity(token="eyJ.secret"))
