"""Names that nobody knows are told beside the answer; what a rule and the bundle know is told nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from broker.identity.directory import IdentityRule
from broker.lease import slips
from broker.lease.desk import Desk
from broker.model.errors import Reason, Refusal
from broker.model.grant import Grant, ResourceGrants
from broker.model.principal import Role
from broker.model.selector import Selector, Target
from broker.store import migrate
from tests.support.outages import failing
from tests.support.world import NOTES, OPERATOR, REPO, RESEARCHER, World, opened

AGENTS = frozenset({Role.AGENTS})
PATTERN = "spiffe://example.org/agent/*"
RULES = (
    IdentityRule("spiffe://example.org/orchestrator", "acme", frozenset({Role.ORCHESTRATORS, Role.VERIFIERS})),
    IdentityRule("oidc:ci:deploy", "acme", AGENTS),
    IdentityRule(PATTERN, "acme", AGENTS),
    IdentityRule("spiffe://globex.example/agent/writer", "globex", AGENTS),
)
KNOWN = f"is known by the pattern `{PATTERN}` alone"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'broker.db'}"
    migrate.upgrade(url)
    return url


def knowing(world: World) -> Desk:
    return replace(world.desk, rules=RULES)


async def told(desk: Desk, target: Target, value: str, tenant: str = "acme") -> Sequence[str]:
    return await slips.in_selector(desk, OPERATOR, Selector(tenant, target, value))


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (Target.ALL, ""),
        (Target.LEASE, "0198f3c2-7b1e-7c11-9d3a-5b1c2f7d9e40"),
        (Target.TOOL, f"{REPO}#read_file"),
        (Target.AGENT, "oidc:ci:deploy"),  # by a rule of its own
        (Target.AGENT, RESEARCHER.id),  # by a group of the bundle
    ],
)
async def test_what_is_known_is_no_slip(sqlite: str, target: Target, value: str) -> None:
    async with opened(sqlite) as world:
        assert await told(knowing(world), target, value) == []


@pytest.mark.parametrize(
    ("target", "value", "slip"),
    [
        (
            Target.TOOL,
            f"{REPO}#read_fil",
            f"the policy bundle knows no tool `read_fil` at `{REPO}`; did you mean `{REPO}#read_file`?",
        ),
        (Target.TOOL, "https://x.example#add", "the policy bundle knows no resource `https://x.example`"),
        (
            Target.AGENT,
            "oidc:ci:deplo",
            "no rule of the tenant `acme` knows the agent `oidc:ci:deplo`; did you mean `oidc:ci:deploy`?",
        ),
        (
            Target.AGENT,
            "spiffe://globex.example/agent/writer",
            (
                "no rule of the tenant `acme` knows the agent `spiffe://globex.example/agent/writer`"
                "; did you mean `spiffe://example.org/agent/writer`?"
            ),
        ),
        (
            Target.AGENT,
            "spiffe://example.org/orchestrator",
            "`spiffe://example.org/orchestrator` is no agent: its rule gives it the groups orchestrators, verifiers",
        ),
        (
            Target.AGENT,
            "spiffe://example.org/agent/reseacher",
            f"the agent `spiffe://example.org/agent/reseacher` {KNOWN}; did you mean `{RESEARCHER.id}`?",
        ),
        (
            Target.AGENT,
            "spiffe://example.org/agent/new",
            f"the agent `spiffe://example.org/agent/new` {KNOWN}, and has had no credential yet",
        ),
    ],
)
async def test_what_nobody_knows_is_told_with_what_was_meant(
    sqlite: str, target: Target, value: str, slip: str
) -> None:
    async with opened(sqlite) as world:
        assert await told(knowing(world), target, value) == [slip]


async def test_a_tenant_that_no_rule_gives_is_told_and_nothing_else_of_it(sqlite: str) -> None:
    async with opened(sqlite) as world:
        (slip,) = await told(knowing(world), Target.AGENT, "nobody", tenant="acm")
        assert slip == "no rule gives the tenant `acm`; did you mean `acme`?"
        assert await told(knowing(world), Target.ALL, "", tenant="*") == []


async def test_where_no_rules_are_known_no_agent_is_a_slip(sqlite: str) -> None:
    async with opened(sqlite) as world:
        assert await told(world.desk, Target.AGENT, "nobody", tenant="acm") == []


async def test_a_selector_of_another_tenant_is_not_looked_at(sqlite: str) -> None:
    async with opened(sqlite) as world:
        confined = replace(OPERATOR, tenant="globex")
        with pytest.raises(Refusal) as refused:
            await slips.in_selector(knowing(world), confined, Selector("acme", Target.ALL))
        assert refused.value.reason is Reason.TENANT_FORBIDDEN


async def test_an_agent_under_a_pattern_is_known_once_it_has_held_a_credential(database_url: str) -> None:
    async with opened(database_url) as world:
        scribe = replace(RESEARCHER, id="spiffe://example.org/agent/scribe/7")
        task = await world.task(agents=(scribe.id,), tools=(ResourceGrants(NOTES, (Grant("add_note"),)),))
        assert len(await slips.in_task(knowing(world), task)) == 1
        await world.issue(task, "add_note", agent=scribe, resource=NOTES)
        assert await slips.in_task(knowing(world), task) == []


async def test_when_the_database_cannot_say_an_agent_is_not_called_new(sqlite: str) -> None:
    async with opened(sqlite) as world:
        with failing(OperationalError):
            assert await told(knowing(world), Target.AGENT, "spiffe://example.org/agent/new") == []


async def test_all_slips_of_a_task_are_told(sqlite: str) -> None:
    tools = (ResourceGrants(REPO, (Grant("read_file"), Grant("red_file"))), ResourceGrants(NOTES, (Grant("x"),)))
    async with opened(sqlite) as world:
        task = await world.task(tools=tools, agents=(RESEARCHER.id, "oidc:ci:deplo"))
        found = await slips.in_task(knowing(world), task)
    assert [slip.partition(";")[0] for slip in found] == [
        f"the policy bundle knows no tool `red_file` at `{REPO}`",
        f"the policy bundle knows no tool `x` at `{NOTES}`",
        "no rule of the tenant `acme` knows the agent `oidc:ci:deplo`",
    ]
