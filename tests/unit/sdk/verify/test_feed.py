"""The feed keeps a verifier fresh exactly while the broker vouches for it, over real mutual TLS."""

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.credential.keys import EcSigner
from broker.model.errors import Reason, Refusal
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.sandbox.certificates import Authority
from broker.sdk.verify.verifier import Verifier
from broker.sdk.verify.watching import watching
from tests.support.fakes import FakeBroker, authority, eventually, known, rule, serving, write_svid

AUDIENCE = "https://repo.tools.example"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def root() -> Authority:
    return authority()


async def test_a_snapshot_makes_a_verifier_ready(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3), rule(7)])
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        assert verifier.is_fresh()
        assert known(verifier) == {3, 7}
        assert verifier.tenant == "acme"
        assert verifier.keys.find(broker.signer.kid) is not None
        assert broker.watched == [None]


async def test_each_rule_is_applied_as_it_comes(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker()
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.push(rule(4))
        await eventually(lambda: known(verifier) == {4})
        await eventually(lambda: broker.confirmed[-1:] == [4])


async def test_a_broker_that_waits_is_answered_at_once(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(heartbeat=60, freshness=timedelta(seconds=60))
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint):
        began = time.monotonic()
        broker.push(rule(4), confirm=True)
        await eventually(lambda: 4 in broker.confirmed)
        assert time.monotonic() - began < 30  # and not at the next heartbeat


async def test_freshness_runs_out_when_confirmations_fail_and_comes_back(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(freshness=timedelta(milliseconds=400))
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.confirms = False
        await eventually(lambda: not verifier.is_fresh())
        with pytest.raises(Refusal) as refused:
            verifier.check("x", "read_file", {})
        assert refused.value.reason is Reason.VERIFIER_STALE
        broker.confirms = True
        await eventually(verifier.is_fresh)


async def test_a_verifier_that_is_behind_does_not_become_fresh(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(freshness=timedelta(milliseconds=400), heartbeat=0.1)
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.told = -1
        broker.rules.append(rule(9))  # recorded, and on its way for a long time
        await eventually(lambda: not verifier.is_fresh())
        assert broker.confirmed[-1] == -1


async def test_under_a_steady_flow_of_rules_a_verifier_confirms_that_it_keeps_up(
    tmp_path: Path, root: Authority
) -> None:
    broker = FakeBroker(freshness=timedelta(seconds=1), heartbeat=600)
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        while len(broker.confirmed) < 7:  # for twice as long as it stays fresh, and never a heartbeat
            broker.push(rule(next(NUMBERS)))
            await asyncio.sleep(0.03)
        await eventually(verifier.is_fresh)


async def test_after_a_lost_connection_it_resumes_where_it_was(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3)])
    async with serving(broker, tmp_path, root) as endpoint:
        port = int(endpoint.address.rpartition(":")[2])
        subscription = watching(Verifier(AUDIENCE), endpoint)
        verifier = await subscription.__aenter__()
    broker.rules.append(rule(5))
    async with serving(broker, tmp_path, root, port):
        await eventually(lambda: known(verifier) == {3, 5})
        assert broker.watched == [None, 3]
        await subscription.__aexit__(None, None, None)


async def test_a_verifier_ahead_of_the_broker_takes_a_snapshot(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3), rule(9)])
    async with serving(broker, tmp_path, root) as endpoint:
        port = int(endpoint.address.rpartition(":")[2])
        subscription = watching(Verifier(AUDIENCE), endpoint)
        verifier = await subscription.__aenter__()
    restored = FakeBroker(signer=broker.signer, rules=[rule(4)])
    async with serving(restored, tmp_path, root, port):
        await eventually(lambda: known(verifier) == {4})
        assert restored.watched == [9]
        await subscription.__aexit__(None, None, None)


async def test_an_unknown_session_makes_it_watch_again(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3)])
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.restart()
        await eventually(lambda: broker.watched == [None, 3])
        await eventually(verifier.is_fresh)


async def test_a_snapshot_in_parts_is_applied_as_a_whole(tmp_path: Path, root: Authority) -> None:
    old = [rule(index) for index in range(6)]
    broker = FakeBroker(rules=list(old), chunk=2, heartbeat=0.03)
    async with serving(broker, tmp_path, root) as endpoint:
        port = int(endpoint.address.rpartition(":")[2])
        subscription = watching(Verifier(AUDIENCE), endpoint)
        verifier = await subscription.__aenter__()
        assert known(verifier) == set(range(6))
    restored = FakeBroker(signer=broker.signer, rules=old[:5], chunk=1, heartbeat=0.03)
    seen: set[int] = set()
    async with serving(restored, tmp_path, root, port):
        async with asyncio.timeout(10):
            while known(verifier) != set(range(5)):
                seen.add(len(known(verifier)))
                await asyncio.sleep(0.002)
        assert seen == {6}  # a verifier may be fresh meanwhile: nothing may be missing for a moment
        await subscription.__aexit__(None, None, None)


async def test_with_a_new_certificate_it_watches_anew(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3)])
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        write_svid(tmp_path / "verifier", root, "spiffe://example.org/verifier/repo")
        await eventually(lambda: broker.watched == [None, 3])
        await eventually(verifier.is_fresh)


async def test_to_a_broker_of_the_version_before_each_confirmation_is_a_call(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(follows=False, freshness=timedelta(milliseconds=400))
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.push(rule(4), confirm=True)
        await eventually(lambda: 4 in broker.confirmed)
        broker.confirms = False
        await eventually(lambda: not verifier.is_fresh())
        broker.confirms = True
        await eventually(verifier.is_fresh)
        broker.restart()
        await eventually(lambda: broker.watched == [None, 4])
        await eventually(verifier.is_fresh)


async def test_a_verifier_whose_tenant_changed_begins_anew(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(rules=[rule(3)], tenant="*")
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.tenant = "acme"
        broker.restart()
        await eventually(lambda: verifier.tenant == "acme")
        assert broker.watched[-1] is None
        await eventually(verifier.is_fresh)


async def test_changed_keys_are_fetched(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker()
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.signer = EcSigner.generate()
        broker.push(keys_changed=True)
        await eventually(lambda: verifier.keys.find(broker.signer.kid) is not None)


async def test_unknown_keys_are_looked_for_but_not_all_the_time(
    tmp_path: Path, root: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = FakeBroker(heartbeat=0.02)
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        given = broker.key_sets_given
        verifier.unknown_key_seen = True
        await asyncio.sleep(0.3)
        assert broker.key_sets_given == given  # fetched a moment ago
        monkeypatch.setattr("broker.sdk.verify.feed._KEYS_AT_MOST_EVERY", 0.0)
        await eventually(lambda: broker.key_sets_given == given + 1)
        assert not verifier.unknown_key_seen


async def test_an_answer_that_is_not_understood_does_not_end_the_watch(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker()
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        before = len(broker.watched)
        for session_id, queue in broker.sessions.items():  # whichever it watches by now
            broken = broker._update(session_id, [rule(2)])
            broken.rules[0].cause = 99  # type: ignore[assignment]
            queue.put_nowait(broken)
        broker.rules.append(rule(2))
        await eventually(lambda: known(verifier) == {2})
        assert len(broker.watched) > before, "it watches anew, and is sent what it had not understood"


async def test_an_answer_that_grants_nothing_takes_nothing_away(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(freshness=timedelta(hours=1))
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        broker.grants = timedelta(0)
        before = len(broker.confirmed)
        broker.push(rule(2), confirm=True)
        await eventually(lambda: len(broker.confirmed) > before + 1)  # and it is asked for again
        assert verifier.is_fresh()


async def test_a_confirmation_keeps_it_fresh_from_when_it_was_sent_however_late_the_answer_comes(
    tmp_path: Path, root: Authority
) -> None:
    now = [0.0]
    broker, verifier = (
        FakeBroker(freshness=timedelta(hours=1), heartbeat=600),
        Verifier(AUDIENCE, monotonic=lambda: now[0]),
    )
    async with serving(broker, tmp_path, root) as endpoint, watching(verifier, endpoint):
        broker.held = []
        broker.push(rule(4), confirm=True)
        await eventually(lambda: 4 in broker.confirmed)
        now[0] = 2_000
        for queue, answer in list(broker.held):
            queue.put_nowait(answer)
        broker.push(rule(5))
        await eventually(lambda: known(verifier) == {4, 5})
        now[0] = 3_599
        assert verifier.is_fresh()
        now[0] = 3_601
        assert not verifier.is_fresh()


async def test_a_broker_that_falls_silent_is_asked_again(tmp_path: Path, root: Authority) -> None:
    broker = FakeBroker(freshness=timedelta(milliseconds=300), heartbeat=60)
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint):
        broker.confirms = False
        await eventually(lambda: len(broker.watched) > 1)


async def test_rules_that_cover_only_the_dead_are_dropped(tmp_path: Path, root: Authority) -> None:
    gone = RevocationRule(
        index=2,
        selector=Selector("acme", Target.ALL),
        cause=Cause.OPERATOR,
        recorded_at=datetime(2020, 1, 1, tzinfo=UTC),
        relevant_until=datetime(2020, 1, 2, tzinfo=UTC),
    )
    broker = FakeBroker(rules=[gone, rule(3)])
    async with serving(broker, tmp_path, root) as endpoint, watching(Verifier(AUDIENCE), endpoint) as verifier:
        await eventually(lambda: known(verifier) == {3})


async def test_whoever_is_cancelled_while_the_block_ends_ends_cancelled(tmp_path: Path, root: Authority) -> None:
    async def watch() -> None:
        async with watching(Verifier(AUDIENCE), endpoint):
            asyncio.get_running_loop().call_soon(watcher.cancel)  # comes when the block waits for the end of the feed

    async with serving(FakeBroker(), tmp_path, root) as endpoint:
        watcher = asyncio.create_task(watch())
        await asyncio.wait([watcher])
        assert watcher.cancelled()


async def test_a_verifier_that_never_gets_a_snapshot_says_why(
    tmp_path: Path, root: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.sdk.verify.feed._START_SECONDS", 0.5)
    broker = FakeBroker(refusal=Refusal(Reason.GROUP_REQUIRED, "this is for the group `verifiers`"))
    async with serving(broker, tmp_path, root) as endpoint:
        with pytest.raises(Refusal) as refused:
            async with watching(Verifier(AUDIENCE), endpoint):
                pytest.fail("the block must not run")
        assert refused.value.reason is Reason.GROUP_REQUIRED
