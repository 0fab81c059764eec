from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.notation import (
    format_constraint,
    gather,
    parse_constraint,
    parse_tool,
)
from broker.model.grant import Constraint, Grant, Operator, ResourceGrants

TOOLS = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
PATHS = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), max_size=20).map(
    lambda text: f"/{text}"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = TEXTS | INTEGERS | st.booleans()


@st.composite
def constraints(draw: st.DrawFn) -> Constraint:
    op = draw(st.sampled_from(Operator))
    values = {
        Operator.EQ: st.tuples(SCALARS),
        Operator.IN: st.lists(SCALARS, min_size=1, max_size=4).map(tuple),
        Operator.PREFIX: st.tuples(TEXTS),
        Operator.RANGE: st.tuples(INTEGERS, INTEGERS),
        Operator.MAX_LEN: st.tuples(st.integers(0, 1000)),
        Operator.ABSENT: st.just(()),
        Operator.PRESENT: st.just(()),
        Operator.HOST_IN: st.lists(TEXTS, min_size=1, max_size=4).map(tuple),
    }[op]
    return Constraint(draw(PATHS), op, draw(values))


@given(TOOLS, constraints())
def test_a_constraint_reads_back_as_it_was_written(tool: str, constraint: Constraint) -> None:
    resource, read_tool, read = parse_constraint(f"https://repo.example.org#{format_constraint(tool, constraint)}")
    assert (resource, read_tool, read) == ("https://repo.example.org", tool, constraint)
    assert [type(value) for value in read.values] == [type(value) for value in constraint.values]


@given(st.text())
def test_any_text_is_a_constraint_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_constraint(text)[2].op in Operator


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("read_file:/repo:eq:acme/web", Constraint("/repo", Operator.EQ, ("acme/web",))),
        (
            "read_file:/url:prefix:https://example.org:8443/",
            Constraint("/url", Operator.PREFIX, ("https://example.org:8443/",)),
        ),
        ("read_file:/ref:in:main,develop", Constraint("/ref", Operator.IN, ("main", "develop"))),
        ("read_file:/n:in:1,true,x", Constraint("/n", Operator.IN, (1, True, "x"))),
        ('read_file:/n:eq:"1"', Constraint("/n", Operator.EQ, ("1",))),
        ("read_file:/n:eq:01", Constraint("/n", Operator.EQ, ("01",))),
        ("read_file:/n:range:-5,50", Constraint("/n", Operator.RANGE, (-5, 50))),
        ("read_file:/n:prefix:12", Constraint("/n", Operator.PREFIX, ("12",))),
        ("read_file:/n:eq:a, b", Constraint("/n", Operator.EQ, ("a, b",))),
        ('read_file:/n:in:"a,b",c', Constraint("/n", Operator.IN, ("a,b", "c"))),
        ("read_file:/force:absent", Constraint("/force", Operator.ABSENT)),
        ("read_file::max_len:3", Constraint("", Operator.MAX_LEN, (3,))),
    ],
)
def test_people_write_constraints_like_this(text: str, constraint: Constraint) -> None:
    assert parse_constraint(text) == ("", "read_file", constraint)


@pytest.mark.parametrize(
    "text",
    [
        "read_file",
        "read_file:/repo",
        "read_file:/repo:like:x",
        "read_file:/repo:eq",
        "read_file:/force:absent:1",
        "read_file:repo:eq:1",
        'read_file:/n:eq:"1',
        'read_file:/n:in:a"b',
        "read_file:/n:eq:9223372036854775808",
        "read file:/n:eq:1",
    ],
)
def test_malformed_constraints_are_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|takes|quote|comma"):
        parse_constraint(text)


@pytest.mark.parametrize("text", ["", "#", "https://repo.example.org", "#read", "https://r#", "https://r#a#b"])
def test_a_tool_needs_a_resource_and_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="RESOURCE#TOOL"):
        parse_tool(text)


def test_constraints_go_to_their_tools_and_tools_to_their_resources() -> None:
    gathered = gather(
        ["https://r#read", "https://n#write", "https://r#list"], ["read:/repo:eq:a", "https://n#write:/x:present"]
    )
    read, write = Constraint("/repo", Operator.EQ, ("a",)), Constraint("/x", Operator.PRESENT)
    assert gathered == (
        ResourceGrants("https://r", (Grant("read", (read,)), Grant("list"))),
        ResourceGrants("https://n", (Grant("write", (write,)),)),
    )


@pytest.mark.parametrize(
    ("tools", "constraint", "says"),
    [
        (["https://r#read", "https://r#read"], "read:/x:present", "twice"),
        (["https://r#read"], "write:/x:present", "not asked for"),
        (["https://r#read"], "https://n#read:/x:present", "not asked for"),
        (["https://r#read", "https://n#read"], "read:/x:present", "could mean"),
    ],
)
def test_a_constraint_that_has_no_one_tool_is_refused(tools: list[str], constraint: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        gather(tools, [constraint])
