"""Constraints: a closed set of operators, strict types, no surprises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.intent import narrowing
from broker.intent.constraints import check_constraint, violation
from broker.model.errors import Reason, Refusal
from broker.model.grant import Constraint, Grant, Operator

HOLDS: list[tuple[Operator, tuple[Any, ...], Any]] = [
    (Operator.EQ, ("acme/web",), "acme/web"),
    (Operator.EQ, (1,), 1),
    (Operator.EQ, (True,), True),
    (Operator.EQ, (1,), 1.0),  # one integer, however it is written
    (Operator.EQ, (0,), -0.0),
    (Operator.IN, (10, 20), 20.0),
    (Operator.IN, ("a", 2, False), 2),
    (Operator.IN, ("a", 2, False), False),
    (Operator.PREFIX, ("docs/",), "docs/a.md"),
    (Operator.PREFIX, ("v",), "v..1"),
    (Operator.PREFIX, ("docs",), "docs/.well-known/a..b"),
    (Operator.PREFIX, ("docs/",), "docs/100% sure"),
    (Operator.PREFIX, ("docs/",), "docs/%" + "25" * 6 + "61"),
    (Operator.PREFIX, ("docs/",), "docs/Ko\u0308ln \U0001f468\u200d\U0001f469"),
    (Operator.PREFIX, ("https://api.example/v1/",), "https://api.example/v1/a%20b?at=1..2&x=K%C3%B6ln"),
    (Operator.RANGE, (1, 50), 1),
    (Operator.RANGE, (1, 50), 50),
    (Operator.RANGE, (1, 50), 50.0),
    (Operator.MAX_LEN, (3,), "abc"),
    (Operator.MAX_LEN, (0,), ""),
    (Operator.MAX_LEN, (2,), [1, 2]),
    (Operator.PRESENT, (), None),
    (Operator.PRESENT, (), False),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example/a?b"),
    (Operator.HOST_IN, ("docs.example",), "http://DOCS.example:8080/"),
]
BREAKS: list[tuple[Operator, tuple[Any, ...], Any]] = [
    (Operator.EQ, ("acme/web",), "acme/Web"),
    (Operator.EQ, ("acme/web",), "acme/web "),
    (Operator.EQ, ("\u00e9",), "e\u0301"),  # nothing is normalised
    (Operator.EQ, (1,), True),
    (Operator.EQ, (True,), 1),
    (Operator.EQ, (1,), 1.5),
    (Operator.EQ, (1,), "1"),
    (Operator.EQ, ("1",), 1),
    (Operator.EQ, (2**53 - 1,), float(2**53)),
    (Operator.EQ, ("a",), ["a"]),
    (Operator.EQ, ("a",), None),
    (Operator.IN, (0,), False),
    (Operator.IN, (0,), 1e-300),
    (Operator.IN, ("a",), "b"),
    (Operator.PREFIX, ("docs/",), "docs"),
    (Operator.PREFIX, ("docs/",), "docs/../secret"),
    (Operator.PREFIX, ("docs/",), "docs/a\\..\\..\\secret"),
    (Operator.PREFIX, ("docs/",), "docs/.."),
    (Operator.PREFIX, ("docs/",), ["docs/a"]),
    (Operator.PREFIX, ("docs/",), "docs/%" + "25" * 8 + "61"),  # in so many layers, nobody can say that it is an `a`
    *(
        (Operator.PREFIX, ("docs",), f"docs{climb}etc/passwd")
        for climb in (
            "/../",
            "\\..\\",
            "/..\\",
            "/%2e%2e/",
            "/.%2E/",
            "/%252e%252e%252f",
            "/%25252e./",
            "/..%2f",
            "/..%5c",
            "/%u002e%u002e/",
            "/%uff0e%uff0e/",
            "/\\u002e\\x2e/",
            "/%5cu002e%5Cu002E/",
            "/%c0%ae%c0%ae/",  # longer than UTF-8 allows
            "/%ef%bc%8e./",
            "/\uff0e\uff0e/",
            "/\u2025/",
            "\u2215..\u2215",
            "\uff0f..\uff3c",
            "/..;/",
            "/..;a=b/",
            "/.. /",
            "/..\u00a0/",
            "/.\u200b./",
            "/.\u0301./",
            "/....//",
            "?file=../",
            "\x00/",
            "%00/",
            "/.\t./",
            "\n../",
            "%0a../",
            "/\ud800/",
            "/" + "%25" * 3 + "2e./" + "%25" * 9 + "2e./../",
        )
    ),
    (Operator.RANGE, (1, 50), 0),
    (Operator.RANGE, (1, 50), 51),
    (Operator.RANGE, (0, 1), True),
    (Operator.RANGE, (1, 50), 1.5),
    (Operator.RANGE, (1, 50), 51.0),
    (Operator.RANGE, (1, 50), float("inf")),
    (Operator.RANGE, (1, 50), 10**400),
    (Operator.RANGE, (1, 50), [7]),
    (Operator.RANGE, (1, 50), "7"),
    (Operator.MAX_LEN, (3,), "abcd"),
    (Operator.MAX_LEN, (3,), 1),
    (Operator.MAX_LEN, (3,), None),
    (Operator.ABSENT, (), None),
    (Operator.ABSENT, (), "x"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example.evil/"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example@evil/"),
    (Operator.HOST_IN, ("docs.example",), "https://evil\\@docs.example/"),
    (Operator.HOST_IN, ("docs.example",), "https://evil/https://docs.example"),
    (Operator.HOST_IN, ("docs.example",), "//docs.example/"),
    (Operator.HOST_IN, ("docs.example",), "ftp://docs.example/"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example:99999/"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.ex\u0430mple/"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example\n/"),
    (Operator.HOST_IN, ("docs.example",), "https://docs.example./"),
]


@pytest.mark.parametrize(("operator", "operands", "value"), HOLDS)
def test_an_argument_within_bounds_holds(operator: Operator, operands: tuple[Any, ...], value: object) -> None:
    constraint = Constraint("/x", operator, operands)
    check_constraint(constraint, "constraint")
    assert violation([constraint], {"x": value}) is None


@pytest.mark.parametrize(("operator", "operands", "value"), BREAKS)
def test_an_argument_out_of_bounds_breaks(operator: Operator, operands: tuple[Any, ...], value: object) -> None:
    constraint = Constraint("/x", operator, operands)
    check_constraint(constraint, "constraint")
    assert violation([constraint], {"x": value}) == constraint


@pytest.mark.parametrize("operator", Operator)
def test_an_argument_that_is_not_there_breaks_all_but_absent(operator: Operator) -> None:
    operands = next(operands for op, operands, _ in HOLDS + BREAKS if op is operator)
    constraint = Constraint("/x/y", operator, operands)
    without: list[Any] = [{}, {"x": 1}, {"x": {}}, {"x": []}, {"x": None}, [], None, 1, {"x": {"z": 1}, "z": {"y": 1}}]
    for arguments in without:
        assert (violation([constraint], arguments) is None) == (operator is Operator.ABSENT)


OTHERWISE: list[Any] = [
    {"x": '{"y": 1}'},
    {"x": ' \n{"y": 1}'},
    {"x": '"{\\"y\\": 1}"'},
    {"x": "y: 1"},
    {"x": ""},
    {"x": b"y"},
    '{"x": {"y": 1}}',
    {"x": [{"y": 1}]},
    {"x": [["y", 1]]},
    [{"x": {"y": 1}}],
    {"X": {"y": 1}},
    {"x": {"Y": 1}},
    {"x": {}, "X": {"y": 1}},
    {"x": {"z": 1, "\uff59": 1}},
    {"x": {"y\x00": 1}},
    {"x": {" y": 1}},
    {"x": {"_y": 1}},
    {"x": {"__proto__": {"y": 1}}},
    {"__proto__": {"x": {"y": 1}}},
]


@pytest.mark.parametrize("operator", Operator)
def test_what_a_server_could_find_otherwise_breaks_all(operator: Operator) -> None:
    operands = next(operands for op, operands, _ in HOLDS + BREAKS if op is operator)
    for arguments in OTHERWISE:
        assert violation([Constraint("/x/y", operator, operands)], arguments) is not None, arguments


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        ("/key", "\u212aey"),  # the Kelvin sign
        ("/class", "cla\u017fs"),  # a long s
        ("/limit", "l\u0131mit"),  # an i without its dot
        ("/stra\u00dfe", "STRASSE"),
        ("/caf\u00e9", "cafe\u0301"),
        ("/max_count", "maxCount"),
        ("/a~1b", "A/B"),
    ],
)
def test_a_second_spelling_of_a_name_on_the_way_breaks_all(path: str, spelling: str) -> None:
    name = path[1:].replace("~1", "/")
    for arguments in ({name: 1, spelling: 2}, {spelling: 2, name: 1}, {spelling: 1}):
        for constraint in (Constraint(path, Operator.EQ, (1,)), Constraint(path, Operator.ABSENT)):
            assert violation([constraint], arguments) is not None
    assert violation([Constraint(path, Operator.EQ, (1,))], {name: 1, "other": 2, "OTHER": 3}) is None


def test_keys_that_no_constraint_names_are_data() -> None:
    files = {"README": "a", "readme": "b"}
    assert violation([Constraint("/files", Operator.MAX_LEN, (2,))], {"files": files}) is None
    assert violation([Constraint("/repo", Operator.EQ, ("x",))], {"repo": "x", **files}) is None


def test_no_argument_takes_long_to_look_at() -> None:
    """What looks at each character more than a few times does not end in minutes."""
    marks = "\u0301\u0327" * 500_000
    prefixes = [Constraint("/x", Operator.PREFIX, ("docs",))] * 64
    for value in (f"docs/{marks}", "docs/" + "%25" * 500_000, "docs/" + "." * 1_000_000, "docs" + " ." * 500_000):
        assert violation(prefixes, {"x": value}) == prefixes[0]
    holding = [Constraint("/x", Operator.PRESENT)] * 64
    assert violation(holding, {"x": 1, marks: 2, **{f"\u00e9{number}": number for number in range(200_000)}}) is None


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/a/b", {"a": {"b": 1}}),
        ("/a/0", {"a": [1]}),
        ("/a~1b", {"a/b": 1}),
        ("/a~0b", {"a~b": 1}),
        ("/~01", {"~1": 1}),
        ("/", {"": 1}),
        ("/0", {"0": 1}),
    ],
)
def test_a_path_is_a_json_pointer(path: str, arguments: object) -> None:
    constraint = Constraint(path, Operator.EQ, (1,))
    check_constraint(constraint, "constraint")
    assert violation([constraint], arguments) is None


@pytest.mark.parametrize("path", ["/a/01", "/a/-", "/a/+0", "/a/ 0", "/a/1", "/a/\u0660", f"/a/{'9' * 400}", "/a/-1"])
def test_a_place_in_a_list_is_written_in_one_way(path: str) -> None:
    assert violation([Constraint(path, Operator.PRESENT)], {"a": [1]}) is not None


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("", Operator.PRESENT),
        Constraint("x", Operator.PRESENT),
        Constraint("/~", Operator.PRESENT),
        Constraint("/~2", Operator.PRESENT),
        Constraint("/\x00", Operator.PRESENT),
        Constraint("/" + "x" * 300, Operator.PRESENT),
        Constraint("/x", Operator.PRESENT, (1,)),
        Constraint("/x", Operator.EQ),
        Constraint("/x", Operator.EQ, (1, 2)),
        Constraint("/x", Operator.EQ, (2**53,)),
        Constraint("/x", Operator.EQ, ("y" * 2_000,)),
        Constraint("/x", Operator.IN),
        Constraint("/x", Operator.IN, tuple(range(65))),
        Constraint("/x", Operator.PREFIX, ("",)),
        Constraint("/x", Operator.PREFIX, (1,)),
        Constraint("/x", Operator.RANGE, (1,)),
        Constraint("/x", Operator.RANGE, (2, 1)),
        Constraint("/x", Operator.RANGE, (False, True)),
        Constraint("/x", Operator.MAX_LEN, (-1,)),
        Constraint("/x", Operator.MAX_LEN, (True,)),
        Constraint("/x", Operator.HOST_IN, ("Docs.Example",)),
        Constraint("/x", Operator.HOST_IN, ("https://docs.example",)),
        Constraint("/x", Operator.HOST_IN, ("",)),
    ],
    ids=str,
)
def test_a_malformed_constraint_is_refused_by_field(constraint: Constraint) -> None:
    with pytest.raises(Refusal) as refused:
        check_constraint(constraint, "grants[0].constraints[0]")
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert refused.value.violations[0].field.startswith("grants[0].constraints[0].")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "0"]), inner, max_size=3),
    max_leaves=6,
)
GOOD = st.builds(
    lambda path, case: Constraint(path, case[0], case[1]),
    st.sampled_from(["/x", "/y", "/x/y", "/x/0"]),
    st.sampled_from(HOLDS + BREAKS),
)


@given(st.lists(GOOD, max_size=3), st.lists(GOOD, max_size=3), JSON)
def test_what_is_narrowed_lets_nothing_through_that_its_parent_or_its_request_does_not(
    declared: list[Constraint], asked: list[Constraint], arguments: object
) -> None:
    """Law 4, for whatever is asked and whatever a call holds."""
    narrowed = narrowing.narrow(Grant("t", tuple(declared)), Grant("t", tuple(asked)))
    allowed = violation(narrowed.constraints, arguments) is None
    assert allowed == (violation(declared, arguments) is None and violation(asked, arguments) is None)
