"""What tests of the store share."""

from __future__ import annotations

import pytest

from tests.support.deployment import Deployment


@pytest.fixture
def deployment(database_url: str) -> Deployment:
    return Deployment(database_url)
