"""Faults of the proof: bytes of another form, nodes that are swapped, harm that is passed over."""

from tests.planted.plant import Fault

FAULTS = (
    Fault(
        "an entry is written in another form",
        'sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan',
        'separators=(",", ":"), ensure_ascii=False, allow_nan',
        ("test_the_form_is_this_one",),
    ),
    Fault(
        "a byte is escaped that need not be",
        "ensure_ascii=False, allow_nan=False",
        "ensure_ascii=True, allow_nan=False",
        ("test_the_form_is_this_one",),
    ),
    Fault(
        "an entry is read in any form",
        "if not isinstance(value, dict) or json_bytes(value) != body:",
        "if not isinstance(value, dict):",
        ("test_what_is_not_in_its_one_form_is_refused",),
    ),
    Fault(
        "a leaf may stand for a node",
        'sha256(b"\\x00" + body)',
        'sha256(b"\\x01" + body)',
        ("test_roots_are_those_of_certificate_transparency",),
    ),
    Fault(
        "the nodes of a proof are swapped",
        "root = node_hash(stored[node], root)",
        "root = node_hash(root, stored[node])",
        ("test_every_leaf_can_be_proved_and_no_other_in_its_place",),
    ),
    Fault(
        "a proof of growth holds whatever it grew from",
        "_climb(first - 1, second - 1, path) == (first_root, second_root)",
        "(_climb(first - 1, second - 1, path) or ((), ()))[1] == second_root",
        ("test_growth_can_be_proved_and_no_other_history",),
    ),
    Fault(
        "a signature line of another key counts",
        "if match[1] != key.name or data[:_KEY_ID_SIZE] != key.key_id:",
        "if match[1] != key.name:",
        ("test_what_is_signed_here_verifies_with_its_own_key_alone",),
    ),
    Fault(
        "an older copy of the ledger passes for the newest",
        "if self._kept is not None and self._kept.size > self._frontier.size:",
        "if self._kept is not None and self._kept.size > 9 * self._frontier.size:",
        ("test_a_kept_checkpoint_tells_an_older_copy_and_another_history",),
    ),
    Fault(
        "an altered entry is passed over",
        "        if leaf != stored_leaf:",
        "        if len(leaf) != len(stored_leaf):",
        ("test_an_altered_entry_is_named_and_nothing_else",),
    ),
    Fault(
        "a lease ends by a rule of before it",
        "ends.append(rules[bisect_right(rules, index, key=_index)])",
        "ends.append(rules[0])",
        ("test_a_lease_of_after_a_rule_ends_by_the_next_one",),
    ),
    Fault(
        "a rule is forgotten at the horizon though its task goes on",
        "return [rule for rule in self._rules if rule.kept_until > horizon]",
        "return [rule for rule in self._rules if rule.relevant_until > horizon]",
        ("test_the_rule_of_an_ended_task_stays_until_its_deadline",),
    ),
    Fault(
        "who looks at the ledger takes it for seen though others went on meanwhile",
        "        while not self.apply(tail):  # another thread went on meanwhile, and not as far\n",
        "        while not self.apply(tail) and False:\n",
        (
            "test_a_look_that_is_overtaken_by_an_older_one_looks_again",
            "test_brokers_and_their_feeds_write_and_follow_side_by_side",
        ),
    ),
)
