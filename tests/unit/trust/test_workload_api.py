"""The Workload API of a real process: what it pushes is taken, what is broken is not, and silence ends in disbelief."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from broker.identity.authority import Authority, Svid, issue_svid
from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import parse_certificates
from broker.system import system_clock
from broker.trust import workload_api
from broker.trust.workload_api import WorkloadApi, WorkloadApiError
from tests.support.fakes import authority
from tests.support.issuer import jwk
from tests.support.workload_api_server import REPOSITORY, WorkloadApiServer, der, jwt_response, x509_response, x509_svid

OURS, HOME, PARTNER = "spiffe://example.org/broker", "spiffe://example.org", "spiffe://partner.example"
ROOT, OTHER, FOREIGN = authority(), authority(), authority("partner.example")
ROOTS = parse_certificates(ROOT.cert_pem)
KEY = ec.generate_private_key(ec.SECP256R1())
HOUR = timedelta(hours=1)


def svid(lifetime: timedelta = HOUR, root: Authority = ROOT) -> Svid:
    return issue_svid(root, parse_spiffe_id(OURS), ["localhost"], lifetime, system_clock())


def push(found: Svid, bundle: bytes = ROOT.cert_pem, **more: Any) -> bytes:
    return x509_response(x509_svid(OURS, found, bundle), **more)


def jwks(*kids: str) -> bytes:
    return json.dumps({"keys": [jwk(KEY, kid, use="jwt-svid") for kid in kids]}).encode()


@dataclass
class Time:
    """A clock that runs, and can be moved."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead


@dataclass
class Room:
    """An agent that serves an SVID and a key, and whoever follows it."""

    agent: WorkloadApiServer
    first: Svid = field(default_factory=svid)
    time: Time = field(default_factory=Time)
    opened: list[WorkloadApi] = field(default_factory=list)

    def open(self, timeout_seconds: float = 60) -> WorkloadApi:
        self.opened.append(WorkloadApi(self.agent.address, self.time, timeout_seconds))
        return self.opened[-1]

    def restart(self) -> None:
        self.agent.start()
        self.agent.tell(x509=push(self.first), jwt=jwt_response({HOME: jwks("k1")}))


@pytest.fixture(scope="module")
def agent() -> Iterator[WorkloadApiServer]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        found = WorkloadApiServer(Path(folder) / "agent.sock")
        yield found
        found.kill()


@pytest.fixture
def room(agent: WorkloadApiServer) -> Iterator[Room]:
    found = Room(agent)
    if agent.running:
        agent.tell(x509=push(found.first), jwt=jwt_response({HOME: jwks("k1")}))
    else:
        found.restart()
    yield found
    for api in found.opened:
        api.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def taken(api: WorkloadApi, condition: Callable[[], object]) -> None:
    """Refresh until a condition holds."""
    until(lambda: (api.refresh(), condition())[1])


def kids(api: WorkloadApi) -> dict[str, list[str]]:
    return {name: [key.kid for key in found.keys] for name, found in api.material.trust_bundles.jwt_keys.items()}


def believes_nobody(api: WorkloadApi) -> bool:
    bundles = api.material.trust_bundles
    return not bundles.roots and not bundles.jwt_keys


def test_what_is_pushed_first_is_there_when_it_is_made(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    api = room.open()
    assert api.material.cert_chain_pem == room.first.cert_pem
    assert api.material.private_key_pem == room.first.key_pem
    assert api.material.trust_bundles.roots == {
        "example.org": ROOTS,
        "partner.example": parse_certificates(FOREIGN.cert_pem),
    }
    assert kids(api) == {"example.org": ["k1"]}
    assert (api.material.generation, api.material.trust_bundles.generation, api.problem) == (1, 1, None)
    assert not api.refresh()
    assert "PRIVATE KEY" not in repr(api.material)


def test_a_rotation_is_taken_with_its_key(room: Room) -> None:
    api, fresh = room.open(), svid()
    room.agent.tell(x509=push(fresh))
    until(api.refresh)
    assert (api.material.cert_chain_pem, api.material.private_key_pem) == (fresh.cert_pem, fresh.key_pem)
    assert (api.material.generation, api.material.trust_bundles.generation) == (2, 2)
    assert not api.refresh()


def test_intermediates_are_shown_behind_the_leaf(room: Room) -> None:
    chain = room.first.cert_pem + OTHER.cert_pem
    room.agent.tell(x509=push(Svid(chain, room.first.key_pem)))
    assert room.open().material.cert_chain_pem == chain


def test_a_root_that_is_removed_is_believed_no_more(room: Room) -> None:
    room.agent.tell(x509=push(room.first, ROOT.cert_pem + OTHER.cert_pem))
    api = room.open()
    assert len(api.material.trust_bundles.roots["example.org"]) == 2
    room.agent.tell(x509=push(room.first))
    until(api.refresh)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_a_trust_domain_comes_and_goes_with_the_pushes_that_hold_it(room: Room) -> None:
    api = room.open()
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    until(api.refresh)
    assert api.material.trust_bundles.roots["partner.example"] == parse_certificates(FOREIGN.cert_pem)
    room.agent.tell(x509=push(room.first))
    until(api.refresh)
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_an_empty_bundle_revokes_its_trust_domain(room: Room) -> None:
    api = room.open()
    room.agent.tell(x509=push(room.first, federated={PARTNER: b""}), jwt=jwt_response({HOME: b"", PARTNER: jwks()}))
    taken(api, lambda: api.material.trust_bundles.roots == {"example.org": ROOTS, "partner.example": ()})
    taken(api, lambda: kids(api) == {"example.org": [], "partner.example": []})
    assert api.problem is None


def test_nobody_writes_our_own_roots_as_those_of_another(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={HOME: der(FOREIGN.cert_pem)}))
    assert room.open().material.trust_bundles.roots == {"example.org": ROOTS}


def test_the_first_svid_is_ours(room: Room) -> None:
    second = x509_svid(OURS, svid(), OTHER.cert_pem)
    room.agent.tell(x509=x509_response(x509_svid(OURS, room.first, ROOT.cert_pem), second))
    api = room.open()
    assert api.material.cert_chain_pem == room.first.cert_pem
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}


def test_keys_of_jwts_come_and_go_with_their_pushes(room: Room) -> None:
    api = room.open()
    room.agent.tell(jwt=jwt_response({HOME: jwks("k1", "k2"), PARTNER: jwks("p1")}))
    until(api.refresh)
    assert kids(api) == {"example.org": ["k1", "k2"], "partner.example": ["p1"]}
    assert api.material.trust_bundles.generation == 2
    room.agent.tell(jwt=jwt_response({PARTNER: jwks("p1")}))
    until(api.refresh)
    assert kids(api) == {"partner.example": ["p1"]}


def test_an_agent_without_jwts_gives_no_keys_and_no_problem(room: Room) -> None:
    room.agent.tell(jwt=None)
    api = room.open()
    assert (kids(api), api.problem) == ({}, None)


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


def test_a_socket_that_is_missing_is_named_with_the_remedy() -> None:
    with pytest.raises(WorkloadApiError, match="see that the agent runs") as error:
        WorkloadApi("unix:///nowhere/agent.sock", system_clock, 0.3)
    assert "unix:///nowhere/agent.sock" in str(error.value)
    assert "No such file" in str(error.value)


def test_an_agent_that_starts_after_us_is_waited_for(room: Room) -> None:
    room.agent.kill()
    threading.Timer(0.3, room.restart).start()
    assert room.open().material.cert_chain_pem == room.first.cert_pem


BROKEN: dict[str, tuple[str, bytes]] = {
    "an X.509 push with a key of another": ("x509", push(Svid(svid().cert_pem, svid().key_pem))),
    "an X.509 push that is cut short": ("x509", push(svid())[:-20]),
    "an X.509 push that has expired": ("x509", push(svid(timedelta(seconds=-1)))),
    "JWT bundles that are cut short": ("jwt", jwt_response({HOME: jwks("k2")})[:-1]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_does_not_replace_what_is_good(room: Room, case: str) -> None:
    api = room.open()
    before = api.material
    name, message = BROKEN[case]
    room.agent.tell("serving", **{name: message})
    until(lambda: api.problem)
    assert "cannot be used" in str(api.problem)
    assert not api.refresh()
    assert api.material is before
    good = {"x509": push(svid()), "jwt": jwt_response({HOME: jwks("k3")})}
    room.agent.tell("serving", **{name: good[name]})
    until(api.refresh)
    assert api.problem is None


def test_a_broken_bundle_keeps_nothing_else_from_being_taken(room: Room) -> None:
    room.agent.tell(
        x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}),
        jwt=jwt_response({HOME: jwks("k1"), PARTNER: jwks("p1")}),
    )
    api, fresh = room.open(), svid()
    partners = parse_certificates(FOREIGN.cert_pem)
    room.agent.tell(
        x509=push(fresh, federated={PARTNER: der(FOREIGN.cert_pem)[:-1]}),
        jwt=jwt_response({HOME: jwks("k2"), PARTNER: b"{}"}),
    )
    taken(api, lambda: api.material.cert_chain_pem == fresh.cert_pem and kids(api)["example.org"] == ["k2"])
    assert api.material.trust_bundles.roots == {"example.org": ROOTS, "partner.example": partners}
    assert kids(api)["partner.example"] == ["p1"]
    assert "the bundle of `partner.example`" in str(api.problem)
    assert "the JWT bundle of `partner.example` is broken" in str(api.problem)
    room.agent.tell(
        x509=push(fresh, federated={PARTNER: der(FOREIGN.cert_pem)}),
        jwt=jwt_response({HOME: jwks("k2"), PARTNER: jwks("p2")}),
    )
    taken(api, lambda: kids(api)["partner.example"] == ["p2"])
    until(lambda: api.problem is None)


def test_a_bundle_that_stays_broken_is_believed_no_longer_than_our_svid_of_then(room: Room) -> None:
    room.agent.tell(x509=push(room.first, federated={PARTNER: der(FOREIGN.cert_pem)}))
    api = room.open()
    room.agent.tell(x509=push(svid(3 * HOUR), federated={PARTNER: b"\x30"}), jwt=jwt_response({HOME: b"{}"}))
    taken(api, lambda: "the JWT bundle of `example.org` is broken" in str(api.problem))
    taken(api, lambda: "the bundle of `partner.example`" in str(api.problem))
    room.time.ahead = HOUR - timedelta(minutes=1)
    api.refresh()
    assert set(api.material.trust_bundles.roots) == {"example.org", "partner.example"}
    assert kids(api) == {"example.org": ["k1"]}
    room.time.ahead = HOUR
    assert api.refresh()
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    assert kids(api) == {}


def test_what_is_broken_from_the_start_is_said(room: Room) -> None:
    room.agent.tell(x509=push(Svid(svid().cert_pem, svid().key_pem)))
    with pytest.raises(WorkloadApiError, match="the key is not that of"):
        room.open(0.5)


def test_keys_of_jwts_that_cannot_be_renewed_live_no_longer_than_our_svid_did(room: Room) -> None:
    api = room.open()
    room.agent.tell(jwt=b"\xff")
    until(lambda: api.problem)
    room.agent.tell(x509=push(svid(3 * HOUR)))
    until(api.refresh)
    room.time.ahead = HOUR - timedelta(minutes=1)
    assert not api.refresh()
    assert kids(api) == {"example.org": ["k1"]}
    room.time.ahead = HOUR
    assert api.refresh()
    assert kids(api) == {}
    assert api.material.trust_bundles.roots == {"example.org": ROOTS}
    assert "no JWT-SVID is believed" in str(api.problem)


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


@pytest.mark.parametrize(
    ("socket", "target"),
    [
        ("unix:///run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("unix:/run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("tcp://127.0.0.1:8000", "ipv4:127.0.0.1:8000"),
        ("tcp://[::1]:8000", "ipv6:[::1]:8000"),
    ],
)
def test_addresses_are_as_in_the_standard(socket: str, target: str) -> None:
    assert workload_api._target(socket) == target


@pytest.mark.parametrize(
    "socket",
    [
        "",
        "/run/spire/agent.sock",
        "unix:",
        "unix:///",
        "unix:agent.sock",
        "unix://host/agent.sock",
        "unix:////agent.sock",
        "unix:///agent.sock?x=1",
        "unix:///agent.sock#x",
        "unix:///agent%2esock",
        "unix:///agent.sock\n",
        "tcp://10.0.0.1:8000",
        "tcp://localhost:8000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:8000/path",
        "tcp://127.0.0.1.evil.example:1",
        "tcp://[127.0.0.1]:8000",
        "http://127.0.0.1:8000",
    ],
)
def test_other_addresses_are_refused(socket: str) -> None:
    with pytest.raises(WorkloadApiError, match="is not the address of a Workload API"):
        WorkloadApi(socket, system_clock, 0.1)


def test_without_its_package_the_extra_is_named() -> None:
    script = """
import sys
from importlib.machinery import PathFinder

class Missing(PathFinder):
    @classmethod
    def find_spec(cls, name, *rest):
        return None if name.startswith("spiffe") else super().find_spec(name, *rest)

sys.meta_path[:] = [Missing if found is PathFinder else found for found in sys.meta_path]
from broker.system import system_clock
from broker.trust.workload_api import WorkloadApi, WorkloadApiError
try:
    WorkloadApi("unix:///agent.sock", system_clock)
except WorkloadApiError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "install `credbroker[spiffe]`" in run.stdout
