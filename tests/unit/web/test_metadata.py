from __future__ import annotations

import pytest

from broker.web.metadata import metadata_paths


@pytest.mark.parametrize(
    ("issuer", "paths"),
    [
        (
            "https://broker.example",
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
        ),
        (
            "https://broker.example/acme",
            [
                "/.well-known/oauth-authorization-server/acme",
                "/.well-known/openid-configuration/acme",
                "/acme/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_an_issuers_metadata_is_where_clients_look(issuer: str, paths: list[str]) -> None:
    assert metadata_paths(issuer) == paths
