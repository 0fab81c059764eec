"""Faults of the SDK: a verifier that accepts what is dead, stolen, or for somebody else, and a feed that flatters."""

from tests.planted.plant import Fault

FAULTS = (
    Fault(
        "a token lives on for the leeway of clocks",
        "if now >= claims.expires_at:",
        "if now >= claims.expires_at + _LEEWAY:",
        ("test_a_token_is_dead_at_its_very_instant_seen_before_or_not",),
    ),
    Fault(
        "a token of another tenant is accepted",
        "if self.tenant not in (claims.tenant, ANY_TENANT):",
        'if self.tenant not in (claims.tenant, ANY_TENANT, "acme"):',
        ("test_a_token_that_is_not_for_here_and_now_is_refused",),
    ),
    Fault(
        "a token of another resource is accepted",
        "if claims.audience != self.audience:",
        "if not claims.audience:",
        ("test_a_token_that_is_not_for_here_and_now_is_refused",),
    ),
    Fault(
        "a stale verifier accepts tokens that it has seen",
        "if self.monotonic() >= self._fresh_until:",
        "if self._monotonic() >= self._fresh_until and token not in self._remembered:",
        ("test_nothing_is_accepted_before_the_feed_or_once_it_is_stale",),
    ),
    Fault(
        "a token that was verified is never looked at again",
        "if verified.version != self.revocations.version:",
        "if verified.version < 0:",
        ("test_a_rule_kills_what_it_covers_also_a_token_seen_before",),
    ),
    Fault(
        "a rule's index is off by one",
        "rule is not None and rule.index > claims.index",
        "rule is not None and rule.index > claims.index + 1",
        ("test_a_lease_is_dead_if_and_only_if_a_covering_rule_is_newer",),
    ),
    Fault(
        "an older rule that comes late hides a newer one",
        "if known is None or rule.index > known.index:",
        "if known is None or rule.index != known.index:",
        ("test_an_older_rule_that_comes_late_does_not_hide_a_newer_one",),
    ),
    Fault(
        "a constraint is ignored",
        "violation(grant.constraints, arguments) if grant.constraints else None",
        "violation(grant.constraints[1:], arguments) if grant.constraints else None",
        ("test_an_argument_out_of_bounds_is_refused_without_repeating_it",),
    ),
    Fault(
        "the certificate is not compared",
        ".certificate != claims.confirmation:",
        '.certificate == "":',
        ("test_others_are_not",),
    ),
    Fault(
        "the key of a proof is not compared",
        "if proof.thumbprint != claims.confirmation:",
        "if not proof.thumbprint:",
        ("test_others_are_not",),
    ),
    Fault(
        "a proof is good for several calls",
        "        self._replays.use(proof, at)\n",
        "",
        ("test_a_stolen_request_cannot_be_sent_again",),
    ),
    Fault(
        "a verifier that is behind counts as fresh",
        "        if freshness := _seconds(confirmed.freshness):\n",
        "        if freshness := _seconds(confirmed.freshness) or 10.0:\n",
        ("test_a_verifier_that_is_behind_does_not_become_fresh",),
    ),
    Fault(
        "whoever has no identity any more confirms on the stream that it has",
        "                    self._confirm_after(_BEHIND_SECONDS)\n                    continue\n",
        "                    pass\n",
        ("test_a_verifier_stays_fresh_for_as_long_as_it_has_an_identity",),
    ),
    Fault(
        "freshness counts from when the answer comes",
        "            self._verifier.fresh_until(sent + freshness)\n",
        "            self._verifier.fresh_until(self._verifier.monotonic() + freshness)\n",
        ("test_a_confirmation_keeps_it_fresh_from_when_it_was_sent_however_late_the_answer_comes",),
    ),
    Fault(
        "what an operator has revoked is issued anew",
        "revoked = refusal.reason is Reason.LEASE_NOT_LIVE and not _is_over(refusal)",
        "revoked = False",
        ("test_what_was_meant_to_end_is_let_go_and_told_once",),
    ),
)
