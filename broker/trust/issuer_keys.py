"""The keys of trusted issuers: fetched ahead of need, and kept for some hours if the issuer is down.

A token that none of the keys verifies may mean that the issuer has a new one: then its keys are looked up anew, once
for all who wait, and the look that answers a token began after it came. So a token is called wrong on what its issuer
says at the time, or not at all. Looks are bounded, however many such tokens come: beyond that they must come again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from broker.identity.issuers import CurrentKeys, Issuer
from broker.identity.jwks import JsonWebKeySet, parse_jwks
from broker.identity.jwt import UnknownIssuerKey
from broker.model import strict_json
from broker.model.errors import CannotStart, Hints, Reason, Refusal
from broker.trust.allowance import Allowance
from broker.trust.fetch import Fetched, Fetcher, FetchError

_DISCOVERY = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0 section 4
_SHORTEST, _USUAL, _LONGEST = timedelta(minutes=1), timedelta(minutes=5), timedelta(hours=1)
_FILE_AGE = timedelta(seconds=5)
_RETRY = timedelta(seconds=10)
_LOOKS_AT_ONCE, _LOOK_EVERY = 10, timedelta(seconds=10)
_DOUBT_EVERY = timedelta(minutes=1)
_GOOD_WITHOUT_ISSUER = timedelta(hours=4)
_UNAVAILABLE = (FetchError, ValueError, OSError)
_NOTHING = JsonWebKeySet()
_NEVER = float("-inf")


class KeySourceError(CannotStart):
    """A file of the configuration cannot be used for an issuer. The message names the key, the file and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where keys are: in a file, at a URL, or else where the issuer's discovery says. `ca_file` holds private roots."""

    jwks_file: Path | None = None
    jwks_url: str = ""
    ca_file: Path | None = None


class IssuerKeys:
    """The keys of one issuer, kept fresh by `run`."""

    def __init__(self, issuer: Issuer, source: KeySource, monotonic: Callable[[], float]) -> None:
        """Make an empty set; `monotonic` counts seconds.

        Raises:
            KeySourceError: the file of private roots cannot be used.
        """
        self._issuer = issuer
        self._source = source
        self._monotonic = monotonic
        self._fetcher = None if source.jwks_file else _fetcher(issuer, source)
        self._keys = CurrentKeys(0, _NOTHING)
        self._fetched_at = _NEVER
        self._looks = Allowance(_LOOKS_AT_ONCE, _LOOK_EVERY, monotonic)
        self._doubts = Allowance(1, _DOUBT_EVERY, monotonic)
        self._begun = self._ended = 0  # fetches
        self._fetching: asyncio.Task[timedelta] | None = None
        self.problem: str | None = None

    def current(self) -> CurrentKeys:
        """Return the keys.

        Raises:
            UnknownIssuerKey: the first fetch is under way; `refresh` waits for it.
            Refusal: UNAVAILABLE, if none could be had yet, or for so long that a withdrawn key could be among them.
        """
        if self._fetched_at == _NEVER and self._fetching is not None:
            raise UnknownIssuerKey(self._issuer)
        if self._monotonic() - self._fetched_at > _GOOD_WITHOUT_ISSUER.total_seconds():
            raise self._unavailable()
        return self._keys

    async def run(self) -> None:
        """Keep the keys fresh, until cancelled."""
        try:
            while True:
                wait = await self._fetch_once()
                await asyncio.sleep(wait.total_seconds())
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections to the issuer."""
        if self._fetcher is not None:
            await self._fetcher.close()

    async def refresh(self, *, forged: bool = False) -> bool:
        """Look the keys up, for a token that none of them verifies; report whether they have changed.

        Everybody who asks meanwhile waits for the same answer. A fetch that has begun already is none: what it brings
        may be older than the token. Tokens that seem to be `forged` have an allowance of their own, one look a minute,
        for an issuer that gives its next key the same id.

        Raises:
            Refusal: UNAVAILABLE, if the issuer does not answer, or must be spared for some seconds.
        """
        before, awaited = self._keys.generation, self._begun + 1
        while self._ended < awaited:
            if self._fetching is None:
                self._take_a_look(self._doubts if forged else self._looks)
            await self._fetch_once()
        if self.problem:
            raise self._unavailable()
        return self.current().generation != before

    async def _fetch_once(self) -> timedelta:
        """Fetch, or wait for the fetch that is under way; return how long the keys stay good."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        return await asyncio.shield(self._fetching)

    async def _fetch(self) -> timedelta:
        self._begun += 1
        try:
            return await self._fetch_now()
        finally:
            # Together, and not in a callback: who comes between the two would wait for what is over, without a pause.
            self._ended, self._fetching = self._begun, None

    async def _fetch_now(self) -> timedelta:
        try:
            fetched = await self._get()
            keys = _usable(fetched.content)
        except _UNAVAILABLE as error:  # what there is holds, and this goes on
            self._tell(str(error))
            return _RETRY
        self._tell(None)
        self._fetched_at = self._monotonic()
        if _ids(keys) != _ids(self._keys.keys):
            self._keys = CurrentKeys(self._keys.generation + 1, keys)
        return _FILE_AGE if self._fetcher is None else min(max(fetched.max_age or _USUAL, _SHORTEST), _LONGEST)

    async def _get(self) -> Fetched:
        if self._fetcher is None or self._source.jwks_file:
            assert self._source.jwks_file is not None  # noqa: S101 (there is a fetcher otherwise)
            return Fetched(await asyncio.to_thread(self._source.jwks_file.read_bytes), None)
        return await self._fetcher.get(self._source.jwks_url or await self._discover(self._fetcher))

    async def _discover(self, fetcher: Fetcher) -> str:
        url = self._issuer.url.rstrip("/") + _DISCOVERY
        try:
            document = strict_json.parse((await fetcher.get(url)).content, fractions=True)
        except ValueError as error:
            raise FetchError(f"{url}: is not strict JSON") from error
        if not isinstance(document, dict) or document.get("issuer") != self._issuer.url:
            raise FetchError(f"{url}: is not the configuration of `{self._issuer.url}`")
        keys_url = document.get("jwks_uri")
        if not isinstance(keys_url, str):
            raise FetchError(f"{url}: does not say where the keys are (`jwks_uri`)")
        return keys_url

    def _take_a_look(self, allowance: Allowance) -> None:
        if seconds := math.ceil(allowance.take()):
            raise Refusal(
                Reason.UNAVAILABLE,
                f"whether the issuer `{self._issuer.name}` has a new key, with which the token is signed, cannot be"
                " looked up now: it was a moment ago, for too many tokens",
                Hints(next=f"try again in {seconds} seconds, with the same token", retry_seconds=seconds),
            )

    def _unavailable(self) -> Refusal:
        return Refusal(
            Reason.UNAVAILABLE,
            f"the keys of the issuer `{self._issuer.name}` cannot be had",
            Hints(
                next="try again in a moment; operators: the broker's log says why",
                retry_seconds=int(_RETRY.total_seconds()),
            ),
        )

    def _tell(self, problem: str | None) -> None:
        if problem and problem != self.problem:
            structlog.get_logger("identity").error("issuer.keys_unavailable", issuer=self._issuer.name, problem=problem)
        self.problem = problem


class TrustedIssuers:
    """All trusted issuers, and the keys of each."""

    def __init__(self, sources: Mapping[str, tuple[Issuer, KeySource]], monotonic: Callable[[], float]) -> None:
        """Make the sets, empty, by the issuers' URLs; `monotonic` counts seconds.

        Raises:
            KeySourceError: a file of keys or of private roots cannot be used; of keys, as it is now.
        """
        for issuer, source in sources.values():
            _check_file(issuer, source)
        self.issuers = {url: issuer for url, (issuer, _) in sources.items()}
        self._sets = {url: IssuerKeys(issuer, source, monotonic) for url, (issuer, source) in sources.items()}

    def current(self, issuer: Issuer) -> CurrentKeys:
        """Return an issuer's keys; else as `IssuerKeys.current`."""
        return self._sets[issuer.url].current()

    async def refresh(self, unknown: UnknownIssuerKey) -> bool:
        """As `IssuerKeys.refresh`."""
        return await self._sets[unknown.issuer.url].refresh(forged=unknown.forged)

    async def run(self) -> None:
        """Keep all of them fresh, until cancelled."""
        async with asyncio.TaskGroup() as running:
            for keys in self._sets.values():
                running.create_task(keys.run())
            await asyncio.Event().wait()


def _fetcher(issuer: Issuer, source: KeySource) -> Fetcher:
    try:
        return Fetcher(source.ca_file)
    except OSError as error:
        raise KeySourceError(
            f"identity.issuer `{issuer.name}`: ca_file: {source.ca_file}: is not a file of certificates in PEM"
        ) from error


def _check_file(issuer: Issuer, source: KeySource) -> None:
    if source.jwks_file is None:
        return
    try:
        _usable(source.jwks_file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise KeySourceError(f"identity.issuer `{issuer.name}`: jwks_file: {source.jwks_file}: {reason}") from error


def _usable(content: bytes) -> JsonWebKeySet:
    keys = parse_jwks(content)
    if not keys.keys:
        raise ValueError("the key set holds no key that could be used")
    return keys


def _ids(keys: JsonWebKeySet) -> list[object]:
    return [(key.kid, sorted(key.algorithms), key.thumbprint()) for key in keys.keys]
