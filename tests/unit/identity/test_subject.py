"""Different claims make different subjects, whatever they hold."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.identity.subject import SubjectTemplate

TEMPLATES = st.sampled_from(["{a}:{b}", "{a}/{b}", "x:{a}::{b}", "{a}@{b}!", "repo:{a}:env:{b}:end", "{a}-{b}"])
VALUES = st.one_of(st.text("ab:/@!-xenv", min_size=1, max_size=6), st.integers(0, 99))


@given(TEMPLATES, VALUES, VALUES, VALUES, VALUES)
def test_two_pairs_of_claims_never_make_one_subject(template: str, a: object, b: object, c: object, d: object) -> None:
    assume((str(a), str(b)) != (str(c), str(d)))
    parsed = SubjectTemplate.parse(template)
    try:
        first, second = parsed.render({"a": a, "b": b}), parsed.render({"a": c, "b": d})
    except ValueError:
        return
    assert first != second


@pytest.mark.parametrize("template", ["", "fixed", "{a}{b}", "{}", "{a", "a}", "{a}}:{b}", "{{a}}"])
def test_a_template_that_could_not_tell_claims_apart_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        SubjectTemplate.parse(template)


@pytest.mark.parametrize(
    ("template", "claims", "subject"),
    [
        ("{sub}", {"sub": "system:serviceaccount:agents:runner"}, "system:serviceaccount:agents:runner"),
        ("{repository_id}:{environment}", {"repository_id": "65", "environment": "prod"}, "65:prod"),
        ("{/kubernetes.io/namespace}", {"kubernetes.io": {"namespace": "agents"}}, "agents"),
    ],
)
def test_claims_are_named_or_pointed_to(template: str, claims: dict[str, object], subject: str) -> None:
    assert SubjectTemplate.parse(template).render(claims) == subject


@pytest.mark.parametrize("value", ["a:b", "", None, True, 1.5, ["a"], {"a": 1}])
def test_a_value_that_would_blur_the_subject_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="`a`"):
        SubjectTemplate.parse("{a}:{b}").render({"a": value, "b": "x"})
