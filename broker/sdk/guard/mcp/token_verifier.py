"""Checks credentials in servers made with `mcp`, 1.x and 2.x: a `TokenVerifier` for `token_verifier=`.

It checks what does not depend on the tool. With 2.x, put `broker.sdk.guard.mcp.server` behind it; with 1.x, which has
no place for that, `broker.sdk.guard.mcp.http` in front instead.
"""

from __future__ import annotations

from mcp.server.auth.provider import AccessToken

from broker.model.errors import Refusal
from broker.sdk.verify.verifier import Verifier


class BrokerTokenVerifier:
    """Reports to the server whether the credential of a request is good: a bearer token, as it shows nothing else.

    The server answers 401 to whatever is refused, also while the broker is out of touch.
    """

    def __init__(self, verifier: Verifier) -> None:
        """Make one on a verifier whose audience is the `resource_server_url` of the server."""
        self._verifier = verifier

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what the server wants to know of a good token; None of any other."""
        try:
            claims = self._verifier.admit(token).claims
        except Refusal:
            return None
        return AccessToken(
            token=token,
            # By this the servers tell whose a session is, and it is for the holder and the task that began it.
            client_id=f"{claims.subject}#{claims.task_id}",
            scopes=[f"tool:{grant.tool}" for grant in claims.grants],
            expires_at=int(claims.expires_at.timestamp()),
            resource=claims.audience,
            subject=claims.subject,
            claims={"iss": claims.issuer},
        )
