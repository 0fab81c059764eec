"""What a broker publishes of itself over HTTPS: metadata, keys, and what pages of any origin may read."""

from __future__ import annotations

from joserfc import jwt
from joserfc.jwk import KeySet

from tests.support.facade import JOB, NOTES, Facade


def test_the_metadata_is_that_of_the_issuer(facade: Facade) -> None:
    found = facade.http.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == facade.url
    for name in ("token_endpoint", "jwks_uri", "introspection_endpoint", "revocation_endpoint"):
        assert found[name].startswith(facade.url + "/")
    assert facade.http.get("/authorize").status_code == 400


def test_the_metadata_is_found_under_the_name_of_openid_connect_too(facade: Facade) -> None:
    found = facade.http.get("/.well-known/openid-configuration")
    assert found.json() == facade.http.get("/.well-known/oauth-authorization-server").json()
    assert found.json()["response_types_supported"] == ["code"], "an empty list is taken for none"
    for name in ("authorization_endpoint", "subject_types_supported", "id_token_signing_alg_values_supported"):
        assert found.json()[name]  # Discovery 1.0 section 3: required


def test_pages_of_any_origin_read_what_is_public_and_call_nothing_else(facade: Facade) -> None:
    asked = {"origin": "https://any.example", "access-control-request-method": "GET"}
    asked |= {"access-control-request-headers": "mcp-protocol-version"}
    for path in ("/jwks", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        read, preflight = facade.http.get(path, headers=asked), facade.http.request("OPTIONS", path, headers=asked)
        assert (read.status_code, preflight.status_code) == (200, 204)
        for answer in (read, preflight):
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
        assert preflight.headers["access-control-allow-headers"] == "*"
    for path in ("/token", "/introspect", "/revoke", "/authorize"):
        for method in ("OPTIONS", "POST"):
            answer = facade.http.request(method, path, headers=asked)
            assert answer.status_code >= 400
            assert "access-control-allow-origin" not in answer.headers


def test_another_library_verifies_the_token_with_the_published_keys(facade: Facade, task_id: str) -> None:
    answer = facade.token(client_assertion=facade.workload(), task=task_id, scope="tool:search_notes")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    keys = KeySet.import_key_set(facade.http.get("/jwks").json())
    claims = jwt.decode(answer.json()["access_token"], keys, algorithms=["ES256"]).claims
    assert (claims["iss"], claims["aud"], claims["sub"]) == (facade.url, NOTES, JOB)
    assert answer.json()["authorization_details"] == claims["authorization_details"]
