"""Freshness is stopped for those who could accept what could not be revoked, until it has been."""

from __future__ import annotations

import pytest

from broker.lease.withheld import Withheld
from broker.model.errors import Reason, Refusal
from broker.model.principal import ANY_TENANT
from broker.model.selector import Selector, Target

LEAKED = Selector("acme", Target.LEASE, "leaked")
EVERYTHING = Selector(ANY_TENANT, Target.ALL)


def test_it_concerns_the_verifiers_of_its_tenant_and_those_of_any() -> None:
    withheld = Withheld()
    assert not withheld.concerns("acme")
    withheld.add(LEAKED)
    assert withheld.concerns("acme")
    assert withheld.concerns(ANY_TENANT)
    assert not withheld.concerns("globex")
    withheld.check("globex")
    with pytest.raises(Refusal) as refused:
        withheld.check("acme")
    assert refused.value.reason is Reason.UNAVAILABLE


def test_what_is_of_every_tenant_concerns_all() -> None:
    withheld = Withheld()
    withheld.add(EVERYTHING)
    assert withheld.concerns("globex")
    assert withheld.concerns(ANY_TENANT)


@pytest.mark.parametrize("recorded", [LEAKED, Selector("acme", Target.ALL), EVERYTHING])
def test_a_rule_that_says_as_much_ends_it(recorded: Selector) -> None:
    withheld = Withheld()
    withheld.add(LEAKED)
    withheld.settle(recorded)
    assert not withheld.concerns("acme")


@pytest.mark.parametrize(
    "recorded",
    [
        Selector("acme", Target.LEASE, "another"),
        Selector("acme", Target.TASK, "leaked"),
        Selector("globex", Target.LEASE, "leaked"),
        Selector("globex", Target.ALL),
    ],
)
def test_a_rule_that_says_something_else_does_not(recorded: Selector) -> None:
    withheld = Withheld()
    withheld.add(LEAKED)
    withheld.settle(recorded)
    assert withheld.concerns("acme")


def test_each_of_two_waits_for_its_own_rule() -> None:
    withheld = Withheld()
    withheld.add(LEAKED)
    withheld.add(Selector("acme", Target.AGENT, "spiffe://example.org/agent"))
    withheld.settle(LEAKED)
    assert withheld.concerns("acme")
    withheld.settle(Selector("acme", Target.AGENT, "spiffe://example.org/agent"))
    assert not withheld.concerns("acme")


def test_what_waits_can_be_told_to_others_until_a_rule_says_it() -> None:
    withheld = Withheld()
    assert withheld.waiting() == frozenset()
    withheld.add(LEAKED)
    assert withheld.waiting() == {LEAKED}
    withheld.settle(LEAKED)
    assert withheld.waiting() == frozenset()
