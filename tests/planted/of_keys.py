"""Faults of token keys: ones that sign too early or too long, and ones that verify what was withdrawn."""

from tests.planted.plant import Fault

FAULTS = (
    Fault(
        "a key that was not announced before signs at once",
        "wait = self.keystore.rotation.spread.total_seconds() if ",
        "wait = 0.0 if ",
        (
            "test_a_broker_that_joins_others_signs_when_their_verifiers_have_its_key",
            "test_a_next_key_whose_lead_is_short_waits_and_the_old_one_signs_meanwhile",
        ),
    ),
    Fault(
        "another broker's key is announced to sign at once",
        "at + rotation.spread if good(before, past) else None",
        "None",
        ("test_where_no_key_is_announced_the_first_signs_at_once_and_those_of_the_next_broker_wait",),
    ),
    Fault(
        "a key that is announced no more signs on",
        "            if turn.ready <= now < turn.over:\n",
        "            if turn.ready <= now:\n",
        ("test_what_cannot_be_announced_for_longer_signs_no_token_that_would_outlive_it",),
    ),
    Fault(
        "whoever announces drops the keys of the others",
        "keys = tuple(sorted([*others, *ours], key=lambda key: key.kid))",
        "keys = tuple(sorted(ours, key=lambda key: key.kid))",
        ("test_what_signed_a_living_token_is_announced_to_all_and_nothing_that_was_withdrawn",),
    ),
    Fault(
        "a withdrawn key is announced again by the broker that still has it",
        "not_announced = {*withdrawn, *gone(",
        "not_announced = {*gone(",
        ("test_a_withdrawn_key_is_not_announced_by_the_broker_that_still_has_it",),
    ),
    Fault(
        "a withdrawn key of another broker stays announced",
        "in good(before, past) if key.kid not in withdrawn}",
        "in good(before, past)}",
        ("test_a_withdrawn_key_is_not_announced_by_the_broker_that_still_has_it",),
    ),
    Fault(
        "a key is dropped when the next one signs",
        "        return self.longest + self.spread\n",
        "        return self.spread\n",
        (
            "test_what_signed_a_living_token_is_announced_to_all_and_nothing_that_was_withdrawn",
            "test_the_next_key_is_published_ahead_of_its_turn_and_the_old_one_stays_for_its_last_token",
        ),
    ),
    Fault(
        "a withdrawn key verifies until the ledger says so",
        "if key.kid not in withdrawn]\n        if self._published",
        "]\n        if self._published",
        ("test_replaced_keys_verify_nothing_from_then_on_even_if_nobody_can_be_told",),
    ),
    Fault(
        "what is announced never ends",
        "return [key for key in announced.keys if key.until > past]",
        "return list(announced.keys)",
        ("test_a_key_that_never_signs_on_leaves_by_itself_and_one_that_does_stays",),
    ),
    Fault(
        "a commitment is to any keys",
        'return hashlib.sha256("\\n".join([*lines, _dumps(announced.withdrawn)]).encode()).hexdigest()',
        "return hashlib.sha256(_dumps(len(lines)).encode()).hexdigest()",
        ("test_a_missing_an_extra_or_an_altered_row_is_not_taken_up",),
    ),
    Fault(
        "a start takes up at a commitment that knows of no keys",
        "    if committed.keys is None:\n        return None\n",
        "",
        ("test_beside_brokers_of_the_version_before_the_announced_keys_are_kept",),
    ),
    Fault(
        "adopting leaves the keys of before in force",
        "        others = {key.kid for key in self.keys} - {key.kid for key in kept}\n",
        "        others = set()\n",
        ("test_adopting_withdraws_every_key_but_the_new_ones",),
    ),
    Fault(
        "who follows a changed announcement does not tell its verifiers",
        "            self._publisher.keys_changed()\n",
        "",
        ("test_verifiers_are_told_of_a_withdrawal_while_the_broker_runs",),
    ),
)
