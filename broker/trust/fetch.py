"""Fetch a small document over HTTPS, strictly: no redirects, no more than so many bytes, and all within seconds."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

_SECONDS = 5.0
_LARGEST = 256 * 1024
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")
_OK = 200
# Kubernetes gives its key set under the name of that form alone (RFC 7517 section 8.5), others under any. Nothing is
# taken that grows when unpacked.
_HEADERS = {"accept": "application/jwk-set+json, application/json, */*;q=0.1", "accept-encoding": "identity"}


class FetchError(Exception):
    """A document could not be had. The message says why, and never what was in it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how long its server says that it stays good; None, if it does not say."""

    content: bytes
    max_age: timedelta | None


class Fetcher:
    """Fetches documents. Servers are believed by the system's roots, or by those of a file alone."""

    def __init__(self, ca_file: Path | None = None) -> None:
        """Make a fetcher; needs a running event loop when it is used.

        Raises:
            OSError: the file cannot be read, or holds no certificate (ssl.SSLError).
        """
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._client = httpx2.AsyncClient(verify=context, follow_redirects=False, timeout=_SECONDS)

    async def get(self, url: str) -> Fetched:
        """Get a document.

        Raises:
            FetchError: it cannot be had, or not in this way.
        """
        _check(url)
        try:
            async with asyncio.timeout(_SECONDS):  # of the whole, however slowly it comes
                async with self._client.stream("GET", url, headers=_HEADERS) as response:
                    return Fetched(await _content(url, response), _max_age(response))
        except TimeoutError:
            raise FetchError(f"{url}: did not answer within {_SECONDS:.0f} seconds") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            raise FetchError(f"{url}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def _check(url: str) -> None:
    """Refuse what is not to be fetched, and what no connection can be made to: the client takes any number for a port.

    Raises:
        FetchError: it is neither.
    """
    if not url.startswith("https://"):
        raise FetchError(f"{url}: is not fetched, since it is not https")
    try:
        _port = urlsplit(url).port
    except ValueError as error:
        raise FetchError(f"{url}: is not fetched: {error}") from error


async def _content(url: str, response: httpx2.Response) -> bytes:
    if response.status_code != _OK:
        raise FetchError(f"{url}: answered with status {response.status_code}; redirects are not followed")
    if (coding := response.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        raise FetchError(f"{url}: is packed as {coding[:16]}, which was not asked for")
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > _LARGEST:
            raise FetchError(f"{url}: is larger than {_LARGEST // 1024} KiB")
    return bytes(content)


def _max_age(response: httpx2.Response) -> timedelta | None:
    match = _MAX_AGE.search(response.headers.get("cache-control", "").lower())
    return None if match is None else timedelta(seconds=int(match[1]))
