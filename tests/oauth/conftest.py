"""A broker with all its doors, and a task."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.facade import JOB, RESEARCHER, Facade, opened


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facade]:
    with opened(tmp_path_factory.mktemp("facade")) as found:
        yield found


@pytest.fixture(scope="module")
def task_id(facade: Facade) -> str:
    return facade.begin(JOB, RESEARCHER)
