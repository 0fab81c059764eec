"""Whatever happens between brokers and verifiers, in any order: law 3 holds, and barriers return."""

from __future__ import annotations

import random  # noqa: TID251 (with a seed: what failed fails again)
from collections.abc import Callable

import pytest

from tests.unit.revocation.model import Life, Model, Verifier

TENANTS = ("acme", "acme", "acme", "globex", "*")


class Walk:
    """One thing after another, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        tenants = ["acme", self.chance.choice(["acme", "globex", "*"])]
        self.model = Model(self._rates(self.chance.choice([1, 2, 2, 3])), tenants, self._rates(len(tenants)))
        # What is likely differs from walk to walk: so that much of one thing is seen, too.
        self.weights = [weight * self.chance.choice([0.1, 1.0, 1.0, 4.0]) for weight, _ in self.happenings()]
        self.actions = [action for _, action in self.happenings()]

    def _rates(self, number: int) -> list[float]:
        return [self.chance.choice([1.0, 1.0099]) for _ in range(number)]

    def step(self) -> None:
        """Let something happen."""
        self.chance.choices(self.actions, self.weights)[0]()
        self.model.run()

    def happenings(self) -> list[tuple[float, Callable[[], None]]]:
        """List what may happen, and how likely it is."""
        return [
            (10, self.time_passes),
            (1, self.everything_sleeps),
            (1, self.a_rule_is_committed),
            (4, self.a_barrier_begins),
            (2, self.a_broker_is_served),
            (2, self.a_broker_hears_that_there_is_news),
            (2, self.a_request_begins),
            (2, self.a_request_is_done),
            (3, self.a_request_is_heard_of),
            (1, self.a_request_fails),
            (1, self.an_orphan_is_done),
            (2, self.all_of_a_watch),
            (1, self.a_verifier_calls),
            (2, self.its_call_arrives),
            (4, self.it_hears),
            (4, self.all_of_a_confirmation),
            (1, self.it_confirms),
            (1, self.its_confirmation_arrives),
            (1, self.it_hears_the_answer),
            (0.5, self.it_confirms_the_future),
            (0.3, self.a_verifier_starts_again),
            (1, self.a_broker_pauses),
            (1.5, self.a_broker_is_cut_off),
            (1.5, self.a_verifier_is_cut_off),
            (1.5, self.all_go_on),
            (0.4, self.a_broker_is_killed),
            (0.1, self.the_register_is_lost),
        ]

    @property
    def life(self) -> Life:
        return self.chance.choice(self.model.lives)

    def time_passes(self) -> None:
        """All do what they do each second, if nothing keeps them from it."""
        for _ in range(self.chance.choice([1, 2, 4, 8])):
            self.model.elapse(0.9)
            for life in self.model.lives:
                self.model.serve(life)
            for verifier in self.model.verifiers:
                self.a_verifier_goes_on(verifier, often=0.4)
            self.model.run()

    def a_verifier_goes_on(self, verifier: Verifier, often: float) -> None:
        if verifier.stream is None or verifier.stream.is_over():
            if not (verifier.is_deaf or verifier.is_mute):
                self.model.watch(verifier, self.life, resumes=True, shows=True)
            return
        waiting = 0 if verifier.is_deaf else len(verifier.stream.inbox)
        is_due = sum(verifier.hear() for _ in range(waiting)) > 0
        if not verifier.is_mute and (is_due or self.chance.random() < often):
            self.model.confirm(verifier)

    def everything_sleeps(self) -> None:
        self.model.elapse(self.chance.choice([0.3, 3.0, 9.0, 11.0]))

    def a_rule_is_committed(self) -> None:
        self.model.commit(self.chance.choice(TENANTS))

    def a_barrier_begins(self) -> None:
        life = self.life
        if not life.paused:
            tenant = self.chance.choice(TENANTS)
            life.begin_barrier(self.model.commit(tenant), tenant)

    def a_broker_is_served(self) -> None:
        life = self.life
        life.wake()
        self.model.serve(life)

    def a_broker_hears_that_there_is_news(self) -> None:
        self.life.wake()

    def a_request_begins(self) -> None:
        for request in self.life.requests:
            if request.visible is None:
                self.model.store.begin(request)

    def a_request_is_done(self) -> None:
        for request in self.life.requests:
            if not request.done:
                self.model.store.do(request)

    def a_request_is_heard_of(self) -> None:
        life = self.life
        waiting = [request for request in life.requests if request.done]
        if waiting and not life.paused:
            self.chance.choice(waiting).is_heard()

    def a_request_fails(self) -> None:
        life = self.life
        if life.requests and not life.paused:
            request = self.chance.choice(life.requests)
            request.fails()
            self.model.orphans += [request] * (request.is_turn and not request.done)

    def an_orphan_is_done(self) -> None:
        if self.model.orphans:
            self.model.store.do(self.model.orphans.pop())

    def all_of_a_watch(self) -> None:
        verifier = self.chance.choice(self.model.verifiers)
        self.model.watch(verifier, self.life, resumes=self.chance.random() < 0.5, shows=self.chance.random() < 0.7)

    def a_verifier_calls(self) -> None:
        verifier = self.chance.choice(self.model.verifiers)
        before = verifier.call(self.life)
        if self.chance.random() < 0.5:
            self.model.leave(before)

    def its_call_arrives(self) -> None:
        verifier = self.chance.choice(self.model.verifiers)
        self.model.arrive(verifier, resumes=self.chance.random() < 0.5, shows=self.chance.random() < 0.7)

    def it_hears(self) -> None:
        self.chance.choice(self.model.verifiers).hear()

    def all_of_a_confirmation(self) -> None:
        self.model.confirm(self.chance.choice(self.model.verifiers))

    def it_confirms(self) -> None:
        self.chance.choice(self.model.verifiers).confirm()

    def its_confirmation_arrives(self) -> None:
        self.model.confirmation_arrives(self.chance.choice(self.model.verifiers))

    def it_hears_the_answer(self) -> None:
        self.chance.choice(self.model.verifiers).hear_answer()

    def it_confirms_the_future(self) -> None:
        """It has all that there is, and says that it has what is to come."""
        verifier = self.chance.choice(self.model.verifiers)
        if verifier.stream is not None and verifier.index == verifier.stream.life.newest:
            verifier.confirm()
            self.model.confirmation_arrives(verifier, 1_000)
            verifier.hear_answer()

    def a_verifier_starts_again(self) -> None:
        self.model.leave(self.chance.choice(self.model.verifiers).restart())

    def a_broker_pauses(self) -> None:
        self.life.paused = True

    def a_broker_is_cut_off(self) -> None:
        """From the ledger, or from the register: what it asks there is on its way for long."""
        self.chance.choice([self.life.line, self.life.registry]).cut = True

    def a_verifier_is_cut_off(self) -> None:
        """It hears no rules, or its confirmations are lost; or both."""
        verifier = self.chance.choice(self.model.verifiers)
        verifier.is_deaf, verifier.is_mute = self.chance.choice([(True, False), (False, True), (True, True)])

    def all_go_on(self) -> None:
        for life in self.model.lives:
            life.paused = life.line.cut = life.registry.cut = False
        for verifier in self.model.verifiers:
            verifier.is_deaf = verifier.is_mute = False

    def a_broker_is_killed(self) -> None:
        self.model.kill(self.chance.randrange(len(self.model.lives)))

    def the_register_is_lost(self) -> None:
        self.model.lose_register()

    def settle(self) -> None:
        """All is well again: barriers return as soon as verifiers have confirmed what they were asked to."""
        self.all_go_on()
        for _ in range(30):
            self.model.elapse(1.0)
            self.all_is_well()
        for verifier in self.model.verifiers:
            self.model.watch(verifier, self.life, resumes=True, shows=True)
        self.all_is_well()
        self.model.elapse(11.0)  # sessions whose secret nobody has shown are over
        self.all_is_well()
        began = self.model.now
        for tenant in sorted(set(TENANTS)):
            for life in self.model.lives:
                life.begin_barrier(self.model.commit(tenant), tenant)
        for _ in range(6):
            self.all_is_well()
        assert not any(life.barriers for life in self.model.lives)
        assert self.model.now < began + 0.1

    def all_is_well(self) -> None:
        """Whoever can talks with whoever hears it, and verifiers confirm what they are asked to."""
        for life in self.model.lives:
            life.wake()
            self.model.serve(life)
        for verifier in self.model.verifiers:
            self.a_verifier_goes_on(verifier, often=0.0)
        self.model.run()


def walk(seeds: range, steps: int) -> None:
    for seed in seeds:
        walking = Walk(seed)
        try:
            for _ in range(steps):
                walking.step()
            walking.settle()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            walking.model.close()


@pytest.mark.parametrize("part", range(2))
def test_whatever_happens_nobody_accepts_what_a_barrier_has_closed_and_barriers_return(part: int) -> None:
    walk(range(part, 300, 2), 30)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_whatever_happens_for_longer_law_3_holds(part: int) -> None:
    walk(range(300 + part, 10_000, 20), 60)


def test_a_verifier_that_comes_while_its_broker_begins_anew_is_put_on_record_once() -> None:
    model = Model([1.0, 1.0], ["acme"], [1.0])
    life, verifier = model.lives[0], model.verifiers[0]
    model.store.rows.clear()  # the others hold it for dead
    model.elapse(2.0)  # its turn is on its way
    verifier.call(life)
    model.arrive(verifier, resumes=False, shows=False)
    model.run()
    model.serve(life)
    assert [session.tenant for session in model.store.sessions.values()] == ["acme"]
    assert verifier.hear()
    model.close()


def test_the_last_session_of_a_verifier_lasts_until_it_has_confirmed_in_the_new_one() -> None:
    model = Model([1.0, 1.0], ["acme"], [1.0])
    (here, there), (verifier,) = model.lives, model.verifiers
    model.watch(verifier, here, resumes=False, shows=False)
    verifier.is_deaf = True
    index = model.commit("acme")
    model.watch(verifier, there, resumes=False, shows=True)  # the rule is among what it is sent, and has not heard yet
    here.begin_barrier(index, "acme")
    for _ in range(3):
        model.serve(there)
        model.elapse(1.0)
        model.serve(here)
    model.run()
    assert here.barriers, "it has not heard of the rule, and may go by what it had"
    assert verifier.hear()
    model.confirm(verifier)
    for _ in range(3):
        model.serve(there)
        model.elapse(1.0)  # with its next beat it finds that the session has ended
        model.serve(here)
    model.run()
    assert not here.barriers
    model.close()
