"""Faults of the lease: guards that are skipped, records that are forgotten, lifetimes that are too long."""

from tests.planted.plant import Fault

FAULTS = (
    Fault(
        "a lock is ignored",
        "    if lock is not None:\n        named = f",
        "    if lock is not None and lock.expires_at is not None:\n        named = f",
        ("test_a_lock_stops_credentials_until_it_is_lifted_once",),
    ),
    Fault(
        "a task is live past its deadline",
        "self.state is TaskState.ACTIVE and at < self.deadline",
        "self.state is TaskState.ACTIVE",
        ("test_no_credential_is_issued_for_a_task_past_its_deadline",),
    ),
    Fault(
        "a tenant is not compared where a lease is used",
        "(lease.holder, lease.tenant) == (holder.id, holder.tenant)",
        "lease.holder == holder.id",
        ("test_another_tenant_sees_no_task_and_no_lease",),
    ),
    Fault(
        "a holder is not compared where a lease is used",
        "(lease.holder, lease.tenant) == (holder.id, holder.tenant)",
        "lease.tenant == holder.tenant",
        ("test_only_its_holder_may_use_a_lease",),
    ),
    Fault(
        "a dead lease is renewed",
        "    if state is not LeaseState.LIVE:",
        "    if state is LeaseState.EXPIRED:",
        ("test_a_lease_is_renewed_by_no_copy_once_another_broker_has_ended_it",),
    ),
    Fault(
        "a quota lets one more in",
        "transaction.tasks.leases_issued(task) >= limits.leases_per_task",
        "transaction.tasks.leases_issued(task) > limits.leases_per_task",
        ("test_quotas_hold_under_concurrency",),
    ),
    Fault(
        "a request id gives its result whatever is asked under it",
        "if _are_comparable(recorded, request.digest) and recorded != request.digest:",
        "if len(recorded) != len(request.digest):",
        ("test_the_same_request_again_gives_the_same_lease_and_another_under_its_id_none",),
    ),
    Fault(
        "a request id is kept as it came",
        "key = principal.id, hashlib.sha256(request_id.encode()).hexdigest()",
        "key = principal.id, request_id",
        ("test_request_ids_are_kept_as_hashes_alone",),
    ),
    Fault(
        "the end of a task kills none of its leases",
        "return [TaskEnded(entry.task_id, entry.index, outcome, entry.at), rule]",
        "return [TaskEnded(entry.task_id, entry.index, outcome, entry.at)]",
        ("test_the_end_of_a_task_is_a_rule_until_its_deadline",),
    ),
    Fault(
        "a rule is forgotten before the last token that it covers",
        "relevant_until=max(tokens_until, transaction.in_force.horizon + _BEHIND_THE_CLOCK)",
        "relevant_until=min(tokens_until, transaction.in_force.horizon + _BEHIND_THE_CLOCK)",
        ("test_what_is_revoked_after_a_start_with_a_clock_far_ahead_is_not_forgotten_at_once",),
    ),
    Fault(
        "an operator's rule for a task is taken for its end",
        "return any(rule.cause is Cause.TASK_ENDED for rule in rules)",
        "return bool(rules)",
        ("test_an_operators_rule_for_a_task_is_not_its_end",),
    ),
    Fault(
        "a renewal shortens a lease that has a longer token",
        "expires_at=max(permit.expiry(desk.limits, transaction.at, ends), self.lease.expires_at)",
        "expires_at=permit.expiry(desk.limits, transaction.at, ends)",
        ("test_a_shorter_renewal_leaves_the_lease_its_longer_token",),
    ),
    Fault(
        "a renewal goes beyond the lease's total lifetime",
        "permit.expiry(desk.limits, transaction.at, ends)",
        "permit.expiry(desk.limits, transaction.at)",
        ("test_a_renewal_ends_with_the_leases_total_lifetime",),
    ),
    Fault(
        "what is good for one time is good again",
        "evidence.issued_at <= transaction.in_force.adopted_at or ",
        "",
        ("test_what_is_good_for_one_time_and_was_issued_before_is_taken_for_used",),
    ),
    Fault(
        "what was decided on a copy is not held against the truth",
        "    if task is None or not task.same_as(decided_on):\n        raise Stale\n    return task\n",
        "    return decided_on if task is None else decided_on\n",
        ("test_issue_and_end_of_task_cannot_pass_each_other",),
    ),
    Fault(
        "an altered task is refused once, and then kept for true",
        " if task_id not in self._altered)",
        ")",
        ("test_nothing_is_signed_by_a_row_that_was_altered",),
    ),
    Fault(
        "a task is everybody's",
        "known_task(task if agent.id in task.agents else None, task_id, agent)",
        "known_task(task, task_id, agent)",
        ("test_an_agent_gets_nothing_for_a_task_that_does_not_name_it",),
    ),
    Fault(
        "a credential outlives the proof of its holder",
        '            "the caller\'s proof of identity": self.agent.not_after,\n',
        "",
        ("test_no_lease_outlives_the_proof_of_its_holder",),
    ),
    Fault(
        "a proof of a key gets something at each broker",
        "    single_use.refuse_spent(transaction, case.agent)\n",
        "",
        ("test_no_broker_takes_a_proof_that_another_has_taken", "test_of_twenty_at_two_brokers_at_once_one_wins"),
    ),
    Fault(
        "a clock that is ahead for a while makes a broker forget what was used",
        "timedelta(days=1)  # by which a broker's clock may be ahead",
        "timedelta(0)  # by which a broker's clock may be ahead",
        ("test_a_clock_that_is_ahead_for_a_while_makes_no_broker_forget_what_was_used",),
    ),
)
