"""One value has one form."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit import canonical
from broker.audit.canonical import MAX_BODY, MalformedEntry
from broker.model.entry import Entry, Kind

AT = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PARTS = st.dictionaries(TEXTS, VALUES, max_size=3)


def entry(**changes: Any) -> Entry:
    return replace(Entry(kind=Kind.TASK_CREATED, at=AT, tenant="acme"), **changes)


def test_the_form_is_this_one() -> None:
    body = canonical.encode(entry(task_id="t", observed={"b": 1, "a": ["ä", None, True]}))
    assert body.decode() == (
        '{"asserted":{},"at":1893499200250000,"decided":{},"effected":{},"kind":"task.created",'
        '"observed":{"a":["ä",null,true],"b":1},"task_id":"t","tenant":"acme","v":1}'
    )


@given(PARTS, PARTS)
def test_what_is_written_reads_back_and_different_values_have_different_bytes(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    bodies = [canonical.encode(entry(effected=part)) for part in (one, other)]
    assert canonical.decode(bodies[0])["effected"] == one
    assert (bodies[0] == bodies[1]) == (repr(_sorted(one)) == repr(_sorted(other)))


@given(PARTS)
def test_the_order_of_members_does_not_matter(part: dict[str, Any]) -> None:
    backwards = dict(reversed(part.items()))
    assert canonical.encode(entry(asserted=part)) == canonical.encode(entry(asserted=backwards))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":9007199254740992}',
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":"\\u00e4"}',
        b'{"a":"\xe4"}',
        b'{"a":1}\n',
        b"[" * 100_000,
    ],
)
def test_what_is_not_in_its_one_form_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedEntry):
        canonical.decode(body)


@given(st.binary(max_size=60))
def test_no_bytes_make_the_parser_stumble(body: bytes) -> None:
    try:
        value = canonical.decode(body)
    except MalformedEntry:
        return
    assert json.loads(body) == value


def test_an_entry_has_a_largest_size() -> None:
    empty = len(canonical.encode(entry(asserted={"x": ""})))
    assert len(canonical.encode(entry(asserted={"x": "y" * (MAX_BODY - empty)}))) == MAX_BODY
    with pytest.raises(MalformedEntry, match="longer than"):
        canonical.encode(entry(asserted={"x": "y" * (MAX_BODY - empty + 1)}))


def test_an_instant_is_kept_to_the_microsecond() -> None:
    bodies = {canonical.encode(entry(at=AT + timedelta(microseconds=number))) for number in range(3)}
    assert len(bodies) == 3


def test_a_commitment_hides_the_text_and_binds_to_it() -> None:
    salt = bytes(range(32))
    committed = canonical.commit(salt, "because")
    assert committed == hashlib.sha256(salt + b"because").hexdigest()
    assert committed != canonical.commit(bytes(32), "because")
    assert committed != canonical.commit(salt, "Because")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return [(name, _sorted(value[name])) for name in sorted(value)]
    return [_sorted(item) for item in value] if isinstance(value, list) else value
