"""What tests of policies share."""

from __future__ import annotations

import pytest

from broker.config.policy_bundle import load
from broker.policy.bundle import PolicyBundle
from broker.policy.engine import Policy
from tests.support.sample_policy import SAMPLE


@pytest.fixture(scope="module")
def bundle() -> PolicyBundle:
    return load(SAMPLE)


@pytest.fixture(scope="module")
def policy(bundle: PolicyBundle) -> Policy:
    return Policy(bundle)
