"""An address that leads nowhere is told before anybody is called."""

from pathlib import Path

import pytest

from broker.model.errors import Reason, Refusal
from broker.sdk.connect.endpoint import Endpoint


@pytest.mark.parametrize("port", ["65536", "999999", "9" * 5_000])
def test_a_port_beyond_the_last_is_refused(port: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="has a port that is none") as refused:
        Endpoint.of(f"localhost:{port}", tmp_path)
    assert refused.value.reason is Reason.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "address", ["localhost:65535", "localhost", "[::1]:8443", "dns:///broker.example.org:8443", "unix:/run/b.sock"]
)
def test_an_address_that_grpc_knows_is_left_to_it(address: str, tmp_path: Path) -> None:
    assert Endpoint.of(address, tmp_path).address == address
