from collections.abc import Iterator

import pytest

from tests.support.doors import Doors, opened


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with opened(tmp_path_factory.mktemp("doors")) as found:
        yield found
