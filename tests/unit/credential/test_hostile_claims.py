"""Rightly signed tokens that say something else than ours do."""

from __future__ import annotations

import json

import pytest

from broker.credential import jose
from tests.support.tokens import CLAIMS, HEADER, KEYS, PAYLOAD, SIGNER, refused, to_json, token

HEADERS: dict[str, object] = {
    "no type": {"alg": "ES256", "kid": SIGNER.kid},
    "type JWT": HEADER | {"typ": "JWT"},
    "type in capitals": HEADER | {"typ": "AT+JWT"},
    "long type": HEADER | {"typ": "application/at+jwt"},
    "no algorithm": {"typ": "at+jwt", "kid": SIGNER.kid},
    "algorithm none": HEADER | {"alg": "none"},
    "algorithm ES384": HEADER | {"alg": "ES384"},
    "algorithm in small letters": HEADER | {"alg": "es256"},
    "algorithm list": HEADER | {"alg": ["ES256"]},
    "no key": {"alg": "ES256", "typ": "at+jwt"},
    "unknown key": HEADER | {"kid": "unknown"},
    "key that is a path": HEADER | {"kid": "../../dev/null"},
    "key that is a number": HEADER | {"kid": 1},
    "key that is nothing": HEADER | {"kid": None},
    "critical": HEADER | {"crit": ["b64"], "b64": False},
    "critical of nothing": HEADER | {"crit": []},
    "unencoded payload": HEADER | {"b64": False},
    "key within": HEADER | {"jwk": json.loads(KEYS.to_jwks())["keys"][0]},
    "key set elsewhere": HEADER | {"jku": "https://evil.example/keys"},
    "certificate elsewhere": HEADER | {"x5u": "https://evil.example/cert"},
    "certificate within": HEADER | {"x5c": ["MIIB"]},
    "compressed": HEADER | {"zip": "DEF"},
    "type of content": HEADER | {"cty": "JWT"},
    "a list": [HEADER],
    "a text": "text",
    "null": b"null",
    "twice the algorithm": b'{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"%b"}' % SIGNER.kid.encode(),
    "no JSON": b"{",
    "no UTF-8": b'{"alg":"\xff"}',
    "a mark before it": b"\xef\xbb\xbf" + to_json(HEADER),
    "empty": b"{}",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_is_exactly_ours(header: object) -> None:
    refused(token(header=header))


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in PAYLOAD.items() if key != name}


def private(**changes: object) -> dict[str, object]:
    inside = PAYLOAD["credbroker"]
    assert isinstance(inside, dict)
    return {**PAYLOAD, "credbroker": {**inside, **changes}}


def detail(**changes: object) -> dict[str, object]:
    details = PAYLOAD["authorization_details"]
    assert isinstance(details, list)
    return {**PAYLOAD, "authorization_details": [{**details[0], **changes}, *details[1:]]}


def constraint(*items: object) -> dict[str, object]:
    return detail(constraints=list(items))


TEXT = json.dumps(PAYLOAD)
PAYLOADS: dict[str, object] = {
    **{f"no {name}": without(name) for name in PAYLOAD},
    **{f"{name} null": {**PAYLOAD, name: None} for name in PAYLOAD},
    **{f"{name} a number": {**PAYLOAD, name: 1} for name in ("iss", "aud", "sub", "client_id", "jti", "scope")},
    **{f"{name} empty": {**PAYLOAD, name: ""} for name in ("iss", "aud", "sub", "client_id", "jti", "scope")},
    **{f"{name} a text": {**PAYLOAD, name: "1893499200"} for name in ("iat", "nbf", "exp")},
    **{f"{name} true": {**PAYLOAD, name: True} for name in ("iat", "nbf", "exp")},
    **{f"{name} negative": {**PAYLOAD, name: -1} for name in ("iat", "nbf", "exp")},
    **{f"{name} beyond all years": {**PAYLOAD, name: 10**18} for name in ("iat", "nbf", "exp")},
    "a fraction": TEXT.replace(f'"exp": {PAYLOAD["exp"]}', f'"exp": {PAYLOAD["exp"]}.5'),
    "an exponent": TEXT.replace(f'"exp": {PAYLOAD["exp"]}', '"exp": 1e999'),
    "no number": TEXT.replace(f'"exp": {PAYLOAD["exp"]}', '"exp": NaN'),
    "infinite": TEXT.replace(f'"exp": {PAYLOAD["exp"]}', '"exp": Infinity'),
    "a huge number": TEXT.replace(f'"exp": {PAYLOAD["exp"]}', f'"exp": {"9" * 5000}'),
    "expiry twice": TEXT[:-1] + ', "exp": 99999999999}',
    "tenant twice": TEXT.replace('"tenant":', '"tenant": "globex", "tenant":'),
    "many audiences": {**PAYLOAD, "aud": [CLAIMS.audience, "https://evil.example"]},
    "one audience in a list": {**PAYLOAD, "aud": [CLAIMS.audience]},
    "another client": {**PAYLOAD, "client_id": "spiffe://example.org/agent/writer"},
    "something more": {**PAYLOAD, "admin": True},
    "a confirmation": {**PAYLOAD, "cnf": {"jkt": "x"}},
    "more scope": {**PAYLOAD, "scope": "tool:read_file tool:list_files tool:delete_repo"},
    "less scope": {**PAYLOAD, "scope": "tool:read_file"},
    "scope in another order": {**PAYLOAD, "scope": "tool:list_files tool:read_file"},
    "no details": {**PAYLOAD, "authorization_details": []},
    "details of nothing": {**PAYLOAD, "authorization_details": [{}]},
    "details no list": {**PAYLOAD, "authorization_details": {"type": "tool_call"}},
    "detail of another type": detail(type="payment"),
    "detail elsewhere": detail(locations=["https://evil.example"]),
    "detail in two places": detail(locations=[CLAIMS.audience, "https://evil.example"]),
    "detail nowhere": detail(locations=[]),
    "detail for two tools": detail(actions=["read_file", "delete_repo"]),
    "detail for no tool": detail(actions=[]),
    "detail with more": detail(privileges=["admin"]),
    "constraints no list": detail(constraints={}),
    "unknown operator": constraint({"path": "/repo", "op": "matches", "value": ".*"}),
    "no operator": constraint({"path": "/repo", "value": "acme/web"}),
    "operator a list": constraint({"path": "/repo", "op": ["eq"], "value": "acme/web"}),
    "no path": constraint({"op": "eq", "value": "acme/web"}),
    "path a number": constraint({"path": 1, "op": "eq", "value": "acme/web"}),
    "no operand": constraint({"path": "/repo", "op": "eq"}),
    "operand null": constraint({"path": "/repo", "op": "eq", "value": None}),
    "operand a list": constraint({"path": "/repo", "op": "eq", "value": ["acme/web"]}),
    "operand for absent": constraint({"path": "/repo", "op": "absent", "value": True}),
    "in nothing": constraint({"path": "/repo", "op": "in", "value": []}),
    "in a text": constraint({"path": "/repo", "op": "in", "value": "acme/web"}),
    "range of one": constraint({"path": "/n", "op": "range", "value": [1]}),
    "range of texts": constraint({"path": "/n", "op": "range", "value": ["1", "2"]}),
    "range of flags": constraint({"path": "/n", "op": "range", "value": [False, True]}),
    "prefix a number": constraint({"path": "/n", "op": "prefix", "value": 1}),
    "length a text": constraint({"path": "/n", "op": "max_len", "value": "1"}),
    "constraint with more": constraint({"path": "/repo", "op": "eq", "value": "acme/web", "not": True}),
    "constraint a text": constraint("/repo eq acme/web"),
    "private with more": private(admin=True),
    "index a text": private(index="7"),
    "index negative": private(index=-1),
    "unknown binding": private(binding="none"),
    "tenant empty": private(tenant=""),
    "task a number": private(task=7),
    "a list": [PAYLOAD],
    "null": b"null",
    "empty": b"",
    "deep": b'{"a":' * 2_000,
    "no UTF-8": b'{"iss":"\xff"}',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_a_payload_is_exactly_ours(payload: object) -> None:
    refused(token(payload=payload))


def test_the_tokens_of_these_tests_are_good_but_for_what_each_changes() -> None:
    assert jose.decode(token(), KEYS) == CLAIMS
    assert jose.decode(token(payload=TEXT), KEYS) == CLAIMS
    assert jose.decode(token(payload=detail(), header=dict(reversed(HEADER.items()))), KEYS) == CLAIMS
