"""Faults of revocation: barriers that return early, and verifiers that are fresh for too long."""

from tests.planted.plant import Fault

FAULTS = (
    Fault(
        "a verifier that has not confirmed does not hold a barrier up",
        "return self.confirmed < index and self.fresh_until > now",
        "return self.confirmed < index - 1 and self.fresh_until > now",
        ("test_whatever_happens_when_a_barrier_has_returned_nobody_accepts_what_its_rule_covers",),
    ),
    Fault(
        "freshness runs from now",
        "return min(next(lacking, self.began + self.window), self.ceiling)",
        "return min(next(lacking, now + self.window), self.ceiling)",
        ("test_freshness_counts_from_the_start_of_the_last_successful_look",),
    ),
    Fault(
        "whoever lacks a rule is fresh for a window from the look that found it",
        "self._missing.append((newest, self.began + self.window))",
        "self._missing.append((newest, began + self.window))",
        ("test_whoever_lacks_a_rule_is_fresh_for_one_window_from_the_look_that_had_not_found_it",),
    ),
    Fault(
        "whoever was stale when a barrier waited is made fresh again",
        "                session.owes = max(session.owes, self.index)\n",
        "                session.owes = max(session.owes, -1)\n",
        (
            "test_after_a_barrier_nobody_is_made_fresh_who_has_not_confirmed_its_rule",
            "test_whoever_was_stale_is_not_made_fresh_again_while_the_barrier_waits_for_others",
        ),
    ),
    Fault(
        "a confirmation of more than there is counts for rules to come",
        "max(session.confirmed, min(index, self.newest if self.newest is not None else -1))",
        "max(session.confirmed, index)",
        ("test_an_index_that_there_is_not_yet_counts_as_the_newest",),
    ),
    Fault(
        "a rule of all tenants concerns nobody",
        "return tenant == ANY_TENANT or rule_tenant in (tenant, ANY_TENANT)",
        "return tenant == ANY_TENANT or rule_tenant == tenant",
        ("test_a_rule_of_all_tenants_concerns_everybody",),
    ),
    Fault(
        "a feed session is anybody's",
        "session.principal != principal.id or ",
        "",
        ("test_a_feed_session_is_its_own_verifiers",),
    ),
    Fault(
        "what an operator has stopped is settled by any rule of the tenant",
        "    return recorded == waiting\n",
        "    return recorded.tenant == waiting.tenant\n",
        ("test_a_rule_that_says_something_else_does_not",),
    ),
    Fault(
        "a revocation waits behind all that came before it",
        "_put(self.urgent if change.urgent else self.others, change)",
        "_put(self.others, change)",
        (
            "test_a_revocation_overtakes_what_waits_and_covers_all_that_is_durable_with_it",
            "test_what_the_end_of_a_task_overtakes_is_refused_behind_it",
        ),
    ),
    Fault(
        "a revocation covers less than what becomes durable with it",
        "batch = [*others, *urgent, ",
        "batch = [*urgent, *others, ",
        ("test_a_revocation_overtakes_what_waits_and_covers_all_that_is_durable_with_it",),
    ),
    Fault(
        "a flood of revocations keeps everybody else waiting",
        "_MOST_BESIDE_URGENT if urgent else _LARGEST_BATCH",
        "0 if urgent else _LARGEST_BATCH",
        ("test_others_have_a_place_in_each_batch_however_many_take_away",),
    ),
    Fault(
        "a heartbeat tells of a rule that is yet to be sent",
        "return None if self.queue.empty() else self.queue.get_nowait()",
        "return None",
        ("test_a_rule_that_comes_just_when_the_wait_for_news_is_over_is_sent_before_a_heartbeat_tells_of_it",),
    ),
    Fault(
        "a revocation waits at the door behind all other calls",
        "return self.caller in (OPERATORS, VERIFIERS) or self.path in _ALSO_FIRST",
        "return self.path in _ALSO_FIRST",
        ("test_who_takes_away_or_must_hear_of_it_or_asks_for_health_has_the_right_of_way_and_nobody_else",),
    ),
    Fault(
        "who is not known yet counts against nobody",
        "if self._waiting[address] >= _MOST_STRANGERS:",
        "if self._waiting[address] >= 2 * _MOST_STRANGERS:",
        ("test_strangers_are_bounded_by_address_and_make_room_when_they_are_known",),
    ),
)
