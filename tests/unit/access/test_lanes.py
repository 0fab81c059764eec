"""Lanes: each audience has room of its own, who is not known yet none but its address's, and nobody waits for room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from broker.access.entrances import ENTRANCES, entrance_of
from broker.access.lanes import Lane, Lanes, Strangers
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role

AGENTS = 1_024
OF_AN_ADDRESS = 256


def refusal(lane: Lane) -> Refusal | None:
    """Return what a call hears that comes to a lane now."""
    try:
        with lane:
            return None
    except Refusal as refused:
        return refused


def test_beyond_its_bound_a_lane_refuses_at_once_and_says_when_to_come_again() -> None:
    lane = Lane("agents", 2)
    with lane, lane:
        refused = refusal(lane)
        assert refused is not None
        assert (refused.reason, refused.hints.retry_seconds) == (Reason.UNAVAILABLE, 1)
        assert "agents" in refused.message
        with pytest.raises(Refusal):
            lane.check()
    lane.check()


def test_who_ends_in_whatever_way_makes_room() -> None:
    lane = Lane("agents", 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), lane:
            raise ZeroDivisionError
    assert refusal(lane) is None


def test_who_was_refused_takes_no_room() -> None:
    lane = Lane("agents", 1)
    with lane:
        for _ in range(3):
            assert refusal(lane) is not None
    assert refusal(lane) is None


def test_a_full_lane_of_agents_is_full_at_every_door_and_leaves_all_others_room() -> None:
    lanes = Lanes()
    with ExitStack() as calls:
        for number in range(AGENTS):
            path = "/token" if number % 2 else "/broker.v1.AgentService/IssueCredential"
            calls.enter_context(lanes.of(entrance_of(path)))
        for entrance in ENTRANCES.values():
            assert (refusal(lanes.of(entrance)) is None) == (entrance.caller is not Role.AGENTS), entrance.path


def test_strangers_are_bounded_by_address_and_make_room_when_they_are_known() -> None:
    strangers = Strangers()
    with ExitStack() as calls:
        for _ in range(OF_AN_ADDRESS):
            calls.enter_context(strangers.waiting("192.0.2.1"))
        with pytest.raises(Refusal) as refused, strangers.waiting("192.0.2.1"):
            pass
        assert (refused.value.reason, refused.value.hints.retry_seconds) == (Reason.UNAVAILABLE, 1)
        with strangers.waiting("192.0.2.2"):
            pass
    with strangers.waiting("192.0.2.1"):
        pass


def test_who_takes_away_or_must_hear_of_it_or_asks_for_health_has_the_right_of_way_and_nobody_else() -> None:
    first = {
        path for path, entrance in ENTRANCES.items() if entrance.has_right_of_way and path.startswith(("/b", "/g"))
    }
    of_operators = {path for path in ENTRANCES if "OperatorService" in path}
    of_verifiers = {path for path in ENTRANCES if "VerifierService" in path}
    health = {path for path in ENTRANCES if "Health" in path}
    assert first == of_operators | of_verifiers | health | {"/broker.v1.OrchestratorService/EndTask"}
