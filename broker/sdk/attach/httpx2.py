"""Attaches a credential to the requests of httpx2: ``httpx2.AsyncClient(auth=CredentialAuth(credential))``.

For `httpx2.Client` as well, with credentials of `SyncClient`.
"""

from __future__ import annotations

from collections.abc import Generator

import httpx2

from broker.sdk.attach import http
from broker.sdk.client.credential import Credential


class CredentialAuth(httpx2.Auth):
    """Attaches a credential as it is at the time: token, and a fresh proof if it is bound to a key.

    Requests to other origins than the resource's go without. `at` is where the resource is reached, if that is not the
    origin of its URI. For a credential that changes hands, give a function that gives it.
    """

    def __init__(self, credential: Credential | http.Current, *, at: str = "") -> None:
        """Make one for a client. The credential stays renewed as long as its block runs."""
        self._current = http.current_of(credential)
        self._at = at

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send a request, and once more if that may help."""
        yield from http.flow(self._current, self._at, request)
