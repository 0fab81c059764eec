"""An address that leads nowhere is told before anybody is called."""

from collections.abc import Sequence
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


@pytest.mark.parametrize(
    ("address", "addresses"),
    [
        ("a.example:8443,b.example:8443", ("a.example:8443", "b.example:8443")),
        ("a.example:8443, [::1]:8443 ", ("a.example:8443", "[::1]:8443")),
        ("ipv4:192.0.2.1:8443,192.0.2.2:8443", ("ipv4:192.0.2.1:8443", "192.0.2.2:8443")),
        ("localhost", ("localhost",)),
    ],
)
def test_several_addresses_stand_between_commas(address: str, addresses: Sequence[str], tmp_path: Path) -> None:
    assert Endpoint.of(address, tmp_path).addresses == addresses


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("a.example:8443,", "one of the brokers' addresses is empty: `a.example:8443,`"),
        (" ,a.example:8443", "one of the brokers' addresses is empty"),
        ("a.example:8443,https://b.example:8443", "is a URL: `https://b.example:8443`"),
        ("a.example:8443,b.example:84430", "`b.example:84430` has a port that is none"),
    ],
)
def test_each_of_several_addresses_is_checked(address: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        Endpoint.of(address, tmp_path)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert problem in refused.value.message
    assert "HOST:PORT" in refused.value.hints.next
