"""A Workload API that is away, comes late, says nothing or gives no identity, and how long its pushes are believed."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from broker.trust.workload_api import WorkloadApi, WorkloadApiError
from tests.support.workload_api import FOREIGN, HOUR, PARTNER, ROOTS, Room, kids, push, svid, taken, until
from tests.support.workload_api_server import der


def believes_nobody(api: WorkloadApi) -> bool:
    bundles = api.material.trust_bundles
    return not bundles.roots and not bundles.jwt_keys


@pytest.mark.parametrize("mood", ["silent", "killed", "hanging up"])
def test_when_the_agent_is_gone_and_our_svid_has_expired_nobody_is_believed(room: Room, mood: str) -> None:
    api = room.open()
    if mood == "killed":
        room.agent.kill()
    else:
        room.agent.tell(mood)
    if mood != "silent":  # which cannot be told from an agent that has no news
        until(lambda: api.problem)
        assert room.agent.address in str(api.problem)
    assert not api.refresh()
    room.time.ahead = HOUR * 3 / 4 + timedelta(minutes=1)
    assert not api.refresh()
    assert "has not renewed it" in str(api.problem)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    room.time.ahead = HOUR
    assert api.refresh()
    assert believes_nobody(api)
    assert api.material.generation == 2
    assert "expired at" in str(api.problem)
    assert not api.refresh()
    room.first = svid(2 * HOUR)
    if mood == "killed":
        room.restart()
    else:
        room.agent.tell(x509=push(room.first))
    taken(api, lambda: kids(api))
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    until(lambda: api.problem is None)


def test_an_svid_of_seconds_expires_in_seconds(room: Room) -> None:
    room.agent.tell(x509=push(svid(timedelta(seconds=2))))
    api = room.open()
    assert not believes_nobody(api)
    room.agent.tell("silent")
    until(api.refresh)
    assert believes_nobody(api)


def test_an_agent_that_comes_back_with_the_same_changes_nothing(room: Room) -> None:
    api = room.open()
    room.agent.kill()
    until(lambda: "UNAVAILABLE" in str(api.problem))
    room.restart()
    until(lambda: api.problem is None)
    assert not api.refresh()
    room.first = svid()
    room.agent.tell(x509=push(room.first))
    until(api.refresh)
    assert api.material.cert_chain_pem == room.first.cert_pem


def test_what_changed_while_the_agent_was_away_is_taken_when_it_is_back(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    api = room.open()
    room.agent.kill()
    until(lambda: api.problem)
    room.restart()
    until(api.refresh)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_without_an_identity_it_is_not_made(room: Room) -> None:
    room.agent.tell("denying")
    before = threading.active_count()
    with pytest.raises(WorkloadApiError, match="no identity issued") as error:
        room.open(0.5)
    assert room.agent.address in str(error.value)
    assert "entry for this process" in str(error.value)
    until(lambda: threading.active_count() <= before)


def test_an_identity_that_comes_in_time_is_waited_for(room: Room) -> None:
    room.agent.tell("denying")
    threading.Timer(0.5, room.agent.tell).start()
    assert room.open().material.cert_chain_pem == room.first.cert_pem


def test_an_identity_that_is_withdrawn_is_believed_no_more(room: Room) -> None:
    api = room.open()
    room.agent.tell("denying")
    taken(api, lambda: believes_nobody(api))
    assert "PERMISSION_DENIED" in str(api.problem)
    assert api.material.cert_chain_pem == room.first.cert_pem
    room.agent.tell()
    taken(api, lambda: kids(api))
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    until(lambda: api.problem is None)


@pytest.mark.parametrize("mood", ["silent", "hanging up"])
def test_an_agent_that_never_answers_is_not_waited_for_without_end(room: Room, mood: str) -> None:
    room.agent.tell(mood)
    with pytest.raises(WorkloadApiError, match=r"within 0\.2 seconds"):
        room.open(0.2)


def test_an_agent_that_starts_after_us_is_waited_for(room: Room) -> None:
    room.agent.kill()
    threading.Timer(0.3, room.restart).start()
    assert room.open().material.cert_chain_pem == room.first.cert_pem


def test_closing_it_leaves_no_thread_and_the_material_as_it_was(room: Room) -> None:
    before = set(threading.enumerate())
    api = room.open()
    assert set(threading.enumerate()) > before
    api.close()
    until(lambda: set(threading.enumerate()) <= before)
    assert not api.refresh()
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    api.close()


def test_closing_it_while_it_tries_again_leaves_no_thread(room: Room) -> None:
    before = set(threading.enumerate())
    api = room.open()
    room.agent.tell("denying")
    until(lambda: api.problem)
    api.close()
    until(lambda: set(threading.enumerate()) <= before)
