"""An issuer's keys, fetched over real HTTPS from one that rolls its keys, is down, slow, or up to no good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.identity.issuers import Issuer
from broker.identity.jwt import UnknownIssuerKey
from broker.model.errors import Reason, Refusal
from broker.sandbox.certificates import Authority
from broker.trust.fetch import Fetcher, FetchError
from broker.trust.issuer_keys import IssuerKeys, KeySource
from tests.support.fakes import authority, eventually
from tests.support.issuer import OidcIssuer, issuing, jwk


@dataclass
class Time:
    """A monotonic clock that moves when told."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Room:
    issuer: OidcIssuer
    ca_file: Path
    time: Time = field(default_factory=Time)
    made: list[IssuerKeys] = field(default_factory=list)

    def key_set(self, **source: object) -> IssuerKeys:
        issuer = Issuer(name="ci", url=self.issuer.url, audience="x")
        found = {"ca_file": self.ca_file, **source}
        self.made.append(IssuerKeys(issuer, KeySource(**found), self.time))  # type: ignore[arg-type]
        return self.made[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OidcIssuer, Authority]]:
    root = authority()
    with issuing(tmp_path_factory.mktemp("issuer"), root) as issuer:
        yield issuer, root


@pytest.fixture
async def room(server: tuple[OidcIssuer, Authority], tmp_path: Path) -> AsyncIterator[Room]:
    issuer, root = server
    issuer.mood, issuer.claimed_issuer, issuer.claimed_keys_url, issuer.key_sets_given = "well", "", "", 0
    issuer.keys.clear()
    issuer.roll("k1")
    (tmp_path / "ca.pem").write_bytes(root.cert_pem)
    room = Room(issuer, tmp_path / "ca.pem")
    yield room
    for keys in room.made:
        await keys.close()


@pytest.fixture
async def keys(room: Room) -> AsyncIterator[IssuerKeys]:
    """The issuer's keys, fetched once and kept fresh."""
    found = room.key_set()
    running = asyncio.create_task(found.run())
    await eventually(lambda: kids(found) == ["k1"])
    yield found
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def kids(keys: IssuerKeys) -> list[str]:
    try:
        return [key.kid for key in keys.current().keys.keys]
    except Refusal:
        return []


async def unavailable(keys: IssuerKeys) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        await keys.refresh()
    assert refusal.value.reason is Reason.UNAVAILABLE
    return refusal.value


async def test_before_the_first_fetch_nothing_can_be_checked(room: Room) -> None:
    with pytest.raises(Refusal) as refusal:
        room.key_set().current()
    assert refusal.value.reason is Reason.UNAVAILABLE


async def test_who_comes_during_the_first_fetch_waits_for_it(room: Room) -> None:
    found = room.key_set()
    running = asyncio.create_task(found.run())
    await asyncio.sleep(0)
    with pytest.raises(UnknownIssuerKey):
        found.current()
    assert await found.refresh()
    assert kids(found) == ["k1"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_comes_as_a_fetch_ends_is_served(room: Room) -> None:
    came: list[asyncio.Task[bool]] = []

    def clock() -> float:
        """Return the time; it is asked for as the last of a fetch, before anybody hears that it is over."""
        if not came:
            came.append(asyncio.create_task(found.refresh()))
        return 1_000.0

    found = IssuerKeys(Issuer(name="ci", url=room.issuer.url, audience="x"), KeySource(ca_file=room.ca_file), clock)
    came.clear()
    running = asyncio.create_task(found.run())
    await eventually(lambda: bool(came) and came[0].done())
    assert not await came[0]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_waits_for_a_first_fetch_that_fails_is_told_that_there_are_no_keys(room: Room) -> None:
    room.issuer.mood = "down"
    await unavailable(room.key_set())


async def test_a_new_key_is_found_when_a_token_names_it(room: Room, keys: IssuerKeys) -> None:
    generation = keys.current().generation
    room.issuer.roll("k2")
    assert await keys.refresh()
    assert kids(keys) == ["k1", "k2"]
    assert keys.current().generation > generation


async def test_unknown_keys_make_one_fetch_however_many_ask(room: Room, keys: IssuerKeys) -> None:
    before = room.issuer.key_sets_given
    assert not any(await asyncio.gather(*(keys.refresh() for _ in range(100))))
    assert room.issuer.key_sets_given == before + 1


async def test_keys_that_are_rolled_again_and_again_are_found_each_time(room: Room, keys: IssuerKeys) -> None:
    for kid in ("k2", "k3", "k4"):
        room.issuer.roll(kid)
        assert await keys.refresh()
        assert kids(keys)[-1] == kid


async def test_what_is_beyond_the_bound_is_told_when_to_come_again_and_found_then(room: Room, keys: IssuerKeys) -> None:
    before = room.issuer.key_sets_given
    for _ in range(10):
        assert not await keys.refresh()
    room.issuer.roll("k2")
    refusal = [await unavailable(keys) for _ in range(100)][-1]
    assert room.issuer.key_sets_given == before + 10
    assert f"try again in {refusal.hints.retry_seconds} seconds" in str(refusal)
    assert 0 < refusal.hints.retry_seconds <= 10
    room.time.now += refusal.hints.retry_seconds
    assert await keys.refresh()
    assert room.issuer.key_sets_given == before + 11


async def test_what_seems_to_be_forged_takes_no_look_from_what_does_not(room: Room, keys: IssuerKeys) -> None:
    assert not await keys.refresh(forged=True)
    for _ in range(100):
        with pytest.raises(Refusal):
            await keys.refresh(forged=True)
    room.issuer.roll("k2")
    assert await keys.refresh()
    room.issuer.roll("k2", keep=False)  # another key of the same name
    room.time.now += 60
    assert await keys.refresh(forged=True)


async def test_a_fetch_that_had_begun_before_the_key_was_there_is_no_answer(room: Room, keys: IssuerKeys) -> None:
    room.issuer.answering.clear()
    before = room.issuer.key_sets_given
    first = asyncio.create_task(keys.refresh())
    await eventually(lambda: room.issuer.key_sets_given == before + 1, seconds=60)  # it has what it will answer
    room.issuer.roll("k2")
    second, third = (asyncio.create_task(keys.refresh()) for _ in range(2))
    await asyncio.sleep(0)
    room.issuer.answering.set()
    assert [await first, await second, await third] == [False, True, True]
    assert room.issuer.key_sets_given == before + 2


async def test_a_key_that_is_withdrawn_is_gone(room: Room, keys: IssuerKeys) -> None:
    room.issuer.roll("k2", keep=False)
    assert await keys.refresh()
    assert kids(keys) == ["k2"]


@pytest.mark.parametrize("mood", ["down", "redirecting", "huge", "packing", "confused", "symmetric"])
async def test_an_issuer_in_trouble_leaves_the_keys_that_there_were(room: Room, keys: IssuerKeys, mood: str) -> None:
    room.issuer.roll("k2", keep=False)
    room.issuer.mood = mood
    assert (await unavailable(keys)).hints.retry_seconds == 10
    assert kids(keys) == ["k1"]
    assert keys.problem
    room.issuer.mood = "well"
    assert await keys.refresh()
    assert kids(keys) == ["k2"]
    assert not keys.problem


async def test_an_error_that_no_issuer_can_cause_ends_the_refresh(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_fetcher: Fetcher, _url: str) -> None:
        raise ZeroDivisionError("the fault is ours")

    monkeypatch.setattr(Fetcher, "get", broken)
    with pytest.raises(ZeroDivisionError):
        await room.key_set().run()


async def test_an_issuer_may_give_its_keys_under_their_own_name_alone(room: Room, keys: IssuerKeys) -> None:
    room.issuer.mood = "particular"
    room.issuer.roll("k2")
    assert await keys.refresh()


async def test_an_issuer_that_is_slow_is_not_waited_for(room: Room, keys: IssuerKeys) -> None:
    room.issuer.mood = "slow"
    await unavailable(keys)
    assert "within 5 seconds" in str(keys.problem)


async def test_after_hours_without_the_issuer_its_keys_are_believed_no_more(room: Room, keys: IssuerKeys) -> None:
    room.issuer.mood = "down"
    room.time.now += 4 * 3_600 - 1
    assert kids(keys) == ["k1"]
    room.time.now += 2
    assert kids(keys) == []


async def test_an_issuer_that_calls_itself_otherwise_is_not_believed(room: Room) -> None:
    room.issuer.claimed_issuer = room.issuer.url + "/"
    keys = room.key_set()
    await unavailable(keys)
    assert "is not the configuration of" in str(keys.problem)
    assert room.issuer.key_sets_given == 0


@pytest.mark.parametrize("where", ["https://localhost:65536/jwks", "https://localhost:99999", "https://[::1/jwks"])
async def test_an_issuer_whose_keys_are_nowhere_ends_nothing(room: Room, where: str) -> None:
    room.issuer.claimed_keys_url = where
    keys = room.key_set()
    running = asyncio.create_task(keys.run())
    await eventually(lambda: bool(keys.problem) or running.done())
    assert not running.done(), "one issuer is not the end of the daemon"
    assert where in str(keys.problem)
    room.issuer.claimed_keys_url = ""
    assert await keys.refresh()
    assert kids(keys) == ["k1"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_server_of_an_unknown_root_is_not_believed(room: Room, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(authority().cert_pem)
    keys = room.key_set(ca_file=tmp_path / "other.pem")
    await unavailable(keys)
    assert "certificate" in str(keys.problem).lower()


async def test_keys_can_have_an_address_of_their_own(room: Room) -> None:
    keys = room.key_set(jwks_url=room.issuer.url + "/elsewhere")
    assert await keys.refresh()
    assert kids(keys) == ["k1"]


async def test_keys_in_a_file_need_no_issuer(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    room.issuer.mood = "down"
    path.write_text(json.dumps({"keys": [jwk(room.issuer.keys["k1"], "filed")]}))
    keys = room.key_set(ca_file=None, jwks_file=path)
    assert await keys.refresh()
    assert kids(keys) == ["filed"]
    path.write_text("{}")
    await unavailable(keys)
    assert kids(keys) == ["filed"]
    path.unlink()
    await unavailable(keys)
    assert "No such file" in str(keys.problem)


async def test_only_https_is_fetched() -> None:
    fetcher = Fetcher()
    for url in ("http://localhost/", "file:///etc/passwd", "ftp://localhost/", ""):
        with pytest.raises(FetchError, match="is not https"):
            await fetcher.get(url)
    with pytest.raises(FetchError):
        await fetcher.get("https://localhost:1/")
    await fetcher.close()
