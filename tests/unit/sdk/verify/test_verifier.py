"""The verifier accepts what it knows to be good, and nothing else."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.credential import jose
from broker.credential.claims import Claims
from broker.credential.keys import EcSigner, KeySet
from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator
from broker.model.lease import Binding
from broker.model.selector import Cause, RevocationRule, Selector, Target
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
AUDIENCE = "https://repo.tools.example"
HOLDER = "spiffe://example.org/agent/researcher"
PRESENTED = Presentation(spiffe_id=HOLDER)
SIGNER = EcSigner.generate()
CLAIMS = Claims(
    issuer="https://broker.example",
    audience=AUDIENCE,
    subject=HOLDER,
    lease_id="l-1",
    task_id="t-1",
    tenant="acme",
    index=10,
    grants=(Grant("read_file", (Constraint("/repo", Operator.EQ, ("acme/web",)),)), Grant("list_files")),
    binding=Binding.IDENTITY,
    issued_at=START,
    expires_at=START + timedelta(minutes=5),
)
TOKEN = jose.encode(CLAIMS, SIGNER)
ARGUMENTS = {"repo": "acme/web"}


@dataclass
class Room:
    """A verifier with clocks that stand until they are moved."""

    now: datetime = START
    monotonic: float = 0.0
    verifier: Verifier = field(init=False)

    def __post_init__(self) -> None:
        self.verifier = Verifier(AUDIENCE, clock=lambda: self.now, monotonic=lambda: self.monotonic)
        self.verifier.use_keys("https://broker.example", KeySet.of([SIGNER]))
        self.verifier.serve("acme")
        self.verifier.fresh_until(10.0)

    def refused(
        self, token: str = TOKEN, tool: str = "read_file", arguments: object = None, **peer: str | None
    ) -> Refusal:
        with pytest.raises(Refusal) as refused:
            self.check(token, tool, ARGUMENTS if arguments is None else arguments, **peer)
        assert len(token) < 20 or token not in str(refused.value)  # shorter ones are in any sentence
        return refused.value

    def check(
        self, token: str = TOKEN, tool: str = "read_file", arguments: object = ARGUMENTS, **peer: str | None
    ) -> str:
        return self.verifier.check(
            token, tool, arguments, Presentation(spiffe_id=peer.get("peer", HOLDER) or "")
        ).lease_id


@pytest.fixture
def room() -> Room:
    return Room()


def rule(index: int, selector: Selector, relevant_until: datetime = START + timedelta(hours=1)) -> RevocationRule:
    return RevocationRule(
        index=index, selector=selector, cause=Cause.OPERATOR, recorded_at=START, relevant_until=relevant_until
    )


def test_a_good_call_goes_ahead_and_says_whose_it_is(room: Room) -> None:
    call = room.verifier.check(TOKEN, "read_file", ARGUMENTS, PRESENTED)
    assert (call.lease_id, call.task_id, call.tenant, call.holder, call.tool) == (
        "l-1",
        "t-1",
        "acme",
        HOLDER,
        "read_file",
    )


def test_nothing_is_accepted_before_the_feed_or_once_it_is_stale(room: Room) -> None:
    assert room.check() == "l-1"
    room.monotonic = 9.99
    assert room.check() == "l-1"
    room.monotonic = 10.0
    assert not room.verifier.is_fresh()
    assert room.refused().reason is Reason.VERIFIER_STALE
    with pytest.raises(Refusal) as refused:
        Verifier(AUDIENCE).check(TOKEN, "read_file", ARGUMENTS, PRESENTED)
    assert refused.value.reason is Reason.VERIFIER_STALE


def test_staleness_comes_before_the_token_is_even_looked_at(room: Room) -> None:
    room.monotonic = 11.0
    assert room.refused("not a token").reason is Reason.VERIFIER_STALE


@pytest.mark.parametrize(
    "claims",
    [
        replace(CLAIMS, issuer="https://other.example"),
        replace(CLAIMS, audience="https://notes.tools.example"),
        replace(CLAIMS, tenant="globex"),
        replace(CLAIMS, issued_at=START + timedelta(seconds=6)),
    ],
    ids=["issuer", "audience", "tenant", "not yet"],
)
def test_a_token_that_is_not_for_here_and_now_is_refused(room: Room, claims: Claims) -> None:
    assert room.refused(jose.encode(claims, SIGNER)).reason is Reason.TOKEN_INVALID


def test_a_token_from_a_clock_that_is_a_little_ahead_is_accepted(room: Room) -> None:
    assert room.check(jose.encode(replace(CLAIMS, issued_at=START + timedelta(seconds=5)), SIGNER)) == "l-1"


def test_a_token_of_another_key_is_refused_and_makes_the_feed_look_for_new_keys(room: Room) -> None:
    assert room.refused(jose.encode(CLAIMS, EcSigner.generate())).reason is Reason.TOKEN_INVALID
    assert room.verifier.unknown_key_seen


def test_a_token_is_dead_at_its_very_instant_seen_before_or_not(room: Room) -> None:
    room.now = CLAIMS.expires_at - timedelta(microseconds=1)
    assert room.check() == "l-1"
    room.now = CLAIMS.expires_at
    assert room.refused().reason is Reason.TOKEN_EXPIRED
    other = Room(now=CLAIMS.expires_at)
    assert other.refused().reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("peer", [None, "", "spiffe://example.org/agent/other", HOLDER + "/"])
def test_a_token_in_other_hands_is_refused(room: Room, peer: str | None) -> None:
    assert room.refused(peer=peer).reason is Reason.HOLDER_MISMATCH


def test_a_bearer_token_needs_no_peer(room: Room) -> None:
    assert room.check(jose.encode(replace(CLAIMS, binding=Binding.BEARER), SIGNER), peer=None) == "l-1"


def test_a_tool_that_is_not_granted_is_refused_by_name(room: Room) -> None:
    refusal = room.refused(tool="delete_repo")
    assert (refusal.reason, refusal.hints.missing) == (Reason.TOOL_NOT_GRANTED, "tool:delete_repo")


@pytest.mark.parametrize("tool", ["", 'x", error="y', "a\r\nset-cookie: b", "a b", "\u0130", "x" * 129])
def test_a_name_that_no_tool_has_is_not_repeated(room: Room, tool: str) -> None:
    refusal = room.refused(tool=tool)
    assert (refusal.reason, refusal.hints.missing) == (Reason.TOOL_NOT_GRANTED, "")
    assert not tool or tool not in str(refusal)


def test_an_argument_out_of_bounds_is_refused_without_repeating_it(room: Room) -> None:
    refusal = room.refused(arguments={"repo": "acme/secret-plans"})
    assert refusal.reason is Reason.ARGUMENT_OUT_OF_BOUNDS
    assert "/repo" in refusal.message
    assert "eq" in refusal.message
    assert "secret-plans" not in str(refusal) + repr(refusal)


@pytest.mark.parametrize("arguments", [{}, [], "acme/web", 7, {"repo": ["acme/web"]}, {"Repo": "acme/web"}])
def test_arguments_of_another_shape_are_out_of_bounds(room: Room, arguments: object) -> None:
    assert room.refused(arguments=arguments).reason is Reason.ARGUMENT_OUT_OF_BOUNDS


SELECTORS = [
    Selector("acme", Target.LEASE, "l-1"),
    Selector("acme", Target.TASK, "t-1"),
    Selector("acme", Target.AGENT, HOLDER),
    Selector("acme", Target.TOOL, f"{AUDIENCE}#list_files"),
    Selector("acme", Target.ALL),
    Selector("*", Target.ALL),
]


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_rule_kills_what_it_covers_also_a_token_seen_before(room: Room, selector: Selector) -> None:
    assert room.check() == "l-1"
    room.verifier.revocations.apply([rule(11, selector)])
    assert room.refused().reason is Reason.TOKEN_REVOKED


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_rule_does_not_touch_what_was_issued_after_it(room: Room, selector: Selector) -> None:
    room.verifier.revocations.apply([rule(10, selector)])
    assert room.check() == "l-1"


@pytest.mark.parametrize(
    "selector",
    [
        Selector("globex", Target.ALL),
        Selector("acme", Target.LEASE, "l-2"),
        Selector("acme", Target.TASK, "l-1"),
        Selector("acme", Target.TOOL, "https://notes.tools.example#read_file"),
    ],
)
def test_a_rule_about_something_else_kills_nothing(room: Room, selector: Selector) -> None:
    room.verifier.revocations.apply([rule(11, selector)])
    assert room.check() == "l-1"


def test_an_older_rule_that_comes_late_does_not_hide_a_newer_one(room: Room) -> None:
    newer, older = rule(20, Selector("acme", Target.ALL)), rule(5, Selector("acme", Target.ALL))
    room.verifier.revocations.apply([newer])
    room.verifier.revocations.apply([older])
    assert room.refused().reason is Reason.TOKEN_REVOKED


def test_a_snapshot_replaces_what_was_known(room: Room) -> None:
    room.verifier.revocations.apply([rule(11, Selector("acme", Target.ALL))])
    room.verifier.revocations.replace([rule(12, Selector("acme", Target.LEASE, "l-2"))])
    assert room.check() == "l-1"


def test_a_rule_is_forgotten_only_when_all_it_covers_has_expired(room: Room) -> None:
    until = CLAIMS.expires_at
    room.verifier.revocations.apply([rule(11, Selector("acme", Target.ALL), until)])
    room.verifier.revocations.forget(until - timedelta(microseconds=1))
    assert room.refused().reason is Reason.TOKEN_REVOKED
    room.verifier.revocations.forget(until)
    room.now = until
    assert room.refused().reason is Reason.TOKEN_EXPIRED


def test_a_token_seen_before_is_verified_again_when_the_keys_change(room: Room) -> None:
    assert room.check() == "l-1"
    room.verifier.use_keys("https://broker.example", KeySet.of([EcSigner.generate()]))
    assert room.refused().reason is Reason.TOKEN_INVALID


def test_a_token_seen_before_is_refused_when_its_tenant_is_no_longer_served(room: Room) -> None:
    room.verifier.serve("*")
    token = jose.encode(replace(CLAIMS, tenant="globex"), SIGNER)
    assert room.check(token) == "l-1"
    room.verifier.serve("acme")
    assert room.refused(token).reason is Reason.TOKEN_INVALID


def test_what_is_remembered_is_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.sdk.verify.verifier._REMEMBERED", 2)
    room.verifier.use_keys("https://broker.example", KeySet.of([SIGNER]))  # which forgets all that was remembered
    for number in range(5):
        room.check(jose.encode(replace(CLAIMS, lease_id=f"l-{number}"), SIGNER))
    assert len(room.verifier._remembered) == 2


def test_granted_tools_are_listed_for_the_holder_alone(room: Room) -> None:
    assert room.verifier.admit(TOKEN, PRESENTED).tools == ("read_file", "list_files")
    with pytest.raises(Refusal) as refused:
        room.verifier.admit(TOKEN, Presentation(spiffe_id="spiffe://example.org/agent/other"))
    assert refused.value.reason is Reason.HOLDER_MISMATCH


def test_granted_tools_of_a_dead_token_are_not_listed(room: Room) -> None:
    room.now = CLAIMS.expires_at
    with pytest.raises(Refusal) as refused:
        room.verifier.admit(TOKEN, PRESENTED)
    assert refused.value.reason is Reason.TOKEN_EXPIRED


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_whatever_is_sent_as_a_token_is_refused_and_never_repeated(text: str) -> None:
    refusal = Room().refused(text or "x")
    assert refusal.reason is Reason.TOKEN_INVALID


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("AQgw_-.z"))
@settings(max_examples=200)
def test_a_token_with_any_character_changed_is_refused(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    if changed != TOKEN:
        assert Room().refused(changed).reason is Reason.TOKEN_INVALID


@given(
    st.sets(
        st.sampled_from(
            sorted(
                CLAIMS.selectors(),
                key=str,
            )
        )
    ),
    st.integers(0, 20),
)
@example(set(CLAIMS.selectors()), CLAIMS.index)
@example(set(CLAIMS.selectors()), CLAIMS.index + 1)
def test_a_lease_is_dead_if_and_only_if_a_covering_rule_is_newer(selectors: set[Selector], index: int) -> None:
    room = Room()
    room.verifier.revocations.apply([rule(index, selector) for selector in selectors])
    if selectors and index > CLAIMS.index:
        assert room.refused().reason is Reason.TOKEN_REVOKED
    else:
        assert room.check() == "l-1"
