"""A bounded cache: what it remembers is what was kept last, and never more than it may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from broker.model.bounded_cache import BoundedCache

STEPS = st.lists(st.tuples(st.sampled_from(["keep", "forget"]), st.integers(0, 9), st.integers()), max_size=60)


@given(st.integers(1, 6), STEPS)
def test_it_remembers_what_was_kept_last_and_nothing_else(most: int, steps: list[tuple[str, int, int]]) -> None:
    cache: BoundedCache[int, int] = BoundedCache(most)
    expected: list[tuple[int, int]] = []
    for step, key, value in steps:
        expected = [pair for pair in expected if pair[0] != key]
        if step == "keep":
            expected = [*expected, (key, value)][-most:]
            assert cache.keep(key, value) == value
        else:
            cache.forget(key)
        assert {key: cache.get(key) for key in range(10) if key in cache} == dict(expected)
        assert len(cache) == len(expected)


def test_threads_that_share_it_keep_within_its_bound() -> None:
    cache: BoundedCache[int, int] = BoundedCache(10)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.keep(number % 50, number), range(20_000)))
    assert len(cache) <= 10
