"""As whom to call a broker: by an `SvidFolder`, a `TokenFile`, or a `WorkloadSocket`.

An identity says where to look. Opened, it gives a source, which is asked for each call and says what to show now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import grpc

from broker.model.errors import Hints, Reason, Refusal


class Credentials(Protocol):
    """What a channel shows. Channels of equal credentials show the same."""

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return them as gRPC takes them."""


class Source(Protocol):
    """An identity as it changes."""

    def credentials(self) -> Credentials:
        """Return what to show now. May wait for a disk, never for a network.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_EXPIRED or IDENTITY_INVALID: there is nothing good to show.
        """

    def close(self) -> None:
        """Stop following it."""


class Identity(Protocol):
    """Where to look for who we are."""

    def open(self) -> Source:
        """Look. May block for some seconds.

        Raises:
            Refusal: as `Source.credentials`.
        """


@dataclass(frozen=True, slots=True)
class WorkloadSocket:
    """A SPIFFE Workload API, such as a SPIRE agent's: `unix:///run/spire/agent.sock`, as in SPIFFE_ENDPOINT_SOCKET.

    Needs `credbroker[spiffe]`. Our SVID is followed by threads. No certificate is shown once it has expired, or the
    agent has said that we have no identity any more.

    A broker's certificate must be of the roots of `trust_domain`, or of our own trust domain if that is empty. For a
    federated one, our entry must federate with it.
    """

    address: str
    trust_domain: str = ""

    def open(self) -> Source:
        """Wait for our SVID, and block for ten seconds at most.

        Raises:
            Refusal: IDENTITY_MISSING, naming the socket and the remedy.
        """
        try:
            from broker.sdk.connect.workload import Workload  # noqa: PLC0415 (what it needs is an extra)
        except ImportError as error:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                f"{self.address}: the Workload API needs package `{error.name}`",
                Hints(next="install `credbroker[spiffe]`"),
            ) from error
        return Workload(self.address, self.trust_domain)
