"""Which name was meant, and when it is better to name none."""

from __future__ import annotations

import pytest

from broker.model.nearest import meant, nearest

TABLES = ("broker", "listen", "identity", "database", "policy", "keys", "ledger", "limits")
AGENTS = ("spiffe://example.org/agent/researcher", "spiffe://example.org/agent/writer", "oidc:ci:job:7")
TOOLS = ("https://repo.tools.example#read_file", "https://repo.tools.example#create_issue", "https://b.example#add")


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("polcy", TABLES, "policy"),
        ("Policy", TABLES, "policy"),
        ("data-base", TABLES, "database"),
        ("metrics", TABLES, ""),
        ("spiffe://example.org/agent/reseacher", AGENTS, AGENTS[0]),
        ("spiffe://example.org/agents/writer", AGENTS, AGENTS[1]),
        ("spiffe://example.com/agent/writer", AGENTS, AGENTS[1]),
        ("spiffe://example.org/agent/tester", AGENTS, ""),  # what all share makes nobody alike
        ("oidc:ci:jobs:7", AGENTS, AGENTS[2]),
        ("https://repo.tools.example#read_fil", TOOLS, TOOLS[0]),
        ("https://repo.tool.example#read_file", TOOLS, TOOLS[0]),
        ("https://repo.tools.example#delete_repo", TOOLS, ""),
        ("policy", ("policy",), ""),
        ("policy", (), ""),
    ],
)
def test_the_nearest_name(name: str, known: tuple[str, ...], found: str) -> None:
    assert nearest(name, known) == found
    assert meant(name, known) == (f"; did you mean `{found}`?" if found else "")
