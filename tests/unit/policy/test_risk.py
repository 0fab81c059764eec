from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from broker.model.task import Environment
from broker.policy.risk import score
from broker.policy.tables import Tool
from tests.support.sample_policy import SITUATION


def tool(sensitivity: int = 0, *, side_effects: bool = False) -> Tool:
    return Tool(
        id="r#t", name="t", sensitivity=sensitivity, side_effects=side_effects, max_lifetime=timedelta(minutes=5)
    )


def test_nothing_special_is_no_risk() -> None:
    assert (score(SITUATION, [tool()]).score, score(SITUATION, [tool()]).factors) == (0, ())


def test_every_factor_is_named_with_its_points() -> None:
    asked = replace(SITUATION, environment=Environment.PROD, lifetime_seconds=601, renewals=8)
    risk = score(asked, [tool(4), tool(0, side_effects=True), *[tool()] * 4])
    assert risk.factors == ("sensitivity+32", "side_effects+10", "prod+15", "breadth+6", "lifetime+10", "renewals+2")
    assert risk.score == 75


def test_the_limits_themselves_add_nothing() -> None:
    assert score(replace(SITUATION, lifetime_seconds=600, renewals=3), [tool()] * 4).score == 0


@given(
    environment=st.sampled_from(Environment),
    lifetime=st.integers(0, 2**70),
    renewals=st.integers(0, 2**70),
    sensitivities=st.lists(st.integers(0, 4), max_size=40),
    side_effects=st.booleans(),
)
def test_the_score_is_bounded_adds_up_and_never_falls_with_more_tools(
    environment: Environment, lifetime: int, renewals: int, sensitivities: list[int], side_effects: bool
) -> None:
    asked = replace(SITUATION, environment=environment, lifetime_seconds=lifetime, renewals=renewals)
    tools = [tool(sensitivity, side_effects=side_effects) for sensitivity in sensitivities]
    risk = score(asked, tools)
    assert 0 <= risk.score <= 100
    assert risk.score == min(100, sum(int(factor.rpartition("+")[2]) for factor in risk.factors))
    assert score(asked, [*tools, tool()]).score >= risk.score
