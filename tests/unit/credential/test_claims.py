"""The claims of a token as bytes: what verifiers of every release read, so they are pinned here, in their order."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.credential.claims import from_payload, to_payload
from broker.model import compact_jws
from broker.model.lease import Binding
from tests.support.tokens import CLAIMS

THUMBPRINT = "A" * 43
HEAD = (
    '{"iss":"https://broker.example","aud":"https://repo.tools.example","sub":"spiffe://example.org/agent/researcher",'
    '"client_id":"spiffe://example.org/agent/researcher","iat":1893499200,"nbf":1893499200,"exp":1893499500,'
    '"jti":"0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40","scope":"tool:read_file tool:list_files","authorization_details":['
    '{"type":"tool_call","locations":["https://repo.tools.example"],"actions":["read_file"],"constraints":['
    '{"path":"/repo","op":"eq","value":"acme/web"},{"path":"/ref","op":"absent"}]},'
    '{"type":"tool_call","locations":["https://repo.tools.example"],"actions":["list_files"],"constraints":['
    '{"path":"/depth","op":"range","value":[1,5]}]}],'
    '"credbroker":{"task":"0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e41","tenant":"acme","index":7,"binding":'
)


@pytest.mark.parametrize(
    ("binding", "tail"),
    [
        (Binding.IDENTITY, '"identity"}}'),
        (Binding.BEARER, '"bearer"}}'),
        (Binding.CERTIFICATE, f'"certificate"}},"cnf":{{"x5t#S256":"{THUMBPRINT}"}}}}'),
        (Binding.DPOP, f'"dpop"}},"cnf":{{"jkt":"{THUMBPRINT}"}}}}'),
    ],
)
def test_the_bytes_of_a_token_stay_as_they_are(binding: Binding, tail: str) -> None:
    bound = tail.count("cnf")
    claims = replace(CLAIMS, binding=binding, confirmation=THUMBPRINT if bound else "")
    written = compact_jws.segment(to_payload(claims))
    assert compact_jws.unbase64url(written).decode() == HEAD + tail
    assert from_payload(json.loads(HEAD + tail)) == claims


def test_a_grant_is_found_by_its_tool() -> None:
    assert CLAIMS.grant("list_files") is CLAIMS.grants[1]
    assert CLAIMS.grant("delete_repo") is None


@pytest.mark.parametrize(
    "confirmation",
    [None, "x", {}, {"jkt": "x"}, {"jkt": 7}, {"x5t#S256": THUMBPRINT}, {"jkt": THUMBPRINT, "kid": "x"}],
)
def test_a_token_is_bound_exactly_as_its_binding_says(confirmation: object) -> None:
    payload = to_payload(replace(CLAIMS, binding=Binding.DPOP, confirmation=THUMBPRINT))
    with pytest.raises(ValueError, match="`cnf` is not exactly the `jkt` of its binding"):
        from_payload(payload | {"cnf": confirmation})


@pytest.mark.parametrize("name", sorted(to_payload(CLAIMS)))
def test_a_token_that_lacks_a_claim_is_none(name: str) -> None:
    payload = to_payload(CLAIMS)
    del payload[name]
    with pytest.raises(ValueError, match="exactly the claims"):
        from_payload(payload)


def test_a_token_with_a_claim_too_many_is_none() -> None:
    payload = to_payload(CLAIMS)
    with pytest.raises(ValueError, match="exactly the claims"):
        from_payload(payload | {"ver": 1})
    private = payload["credbroker"]
    assert isinstance(private, dict)
    with pytest.raises(ValueError, match="exactly the claims"):
        from_payload(payload | {"credbroker": private | {"lineage": []}})
