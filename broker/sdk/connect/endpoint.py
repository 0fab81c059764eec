"""Where brokers are, and as whom to call them: as a caller says, or as the environment has it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.identity import Credentials, Identity, WorkloadSocket
from broker.sdk.connect.svid import SvidFolder
from broker.sdk.connect.token_file import TokenFile

ADDRESS_VARIABLE = "CREDBROKER_ADDRESS"
SVID_DIR_VARIABLE = "CREDBROKER_SVID_DIR"
TOKEN_FILE_VARIABLE = "CREDBROKER_IDENTITY_TOKEN_FILE"
CA_FILE_VARIABLE = "CREDBROKER_CA_FILE"
TRUST_DOMAIN_VARIABLE = "CREDBROKER_TRUST_DOMAIN"
SOCKET_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"  # SPIFFE Workload Endpoint section 4
_LAST_PORT = "65535"  # of a greater number gRPC takes what is left over, and calls somebody else
_WRITTEN = (
    f"write {ADDRESS_VARIABLE} or --address as HOST:PORT, such as broker.example.org:8443, or as several with commas"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is, and as whom to call it. `address` names one, or several with commas between."""

    address: str
    identity: Identity

    @classmethod
    def of(
        cls, address: str | None = None, svid_dir: str | Path | None = None, identity: Identity | None = None
    ) -> Endpoint:
        """Take what is not given from the environment: the address from CREDBROKER_ADDRESS.

        The identity is the first one that is there: CREDBROKER_SVID_DIR or CREDBROKER_IDENTITY_TOKEN_FILE, each with
        CREDBROKER_CA_FILE; and last SPIFFE_ENDPOINT_SOCKET, as that may be meant for others, with
        CREDBROKER_TRUST_DOMAIN, which is the broker's if it is not ours.

        Raises:
            Refusal: INVALID_ARGUMENT, if something is set nowhere, an address is none, or two identities are given.
        """
        address = address or os.environ.get(ADDRESS_VARIABLE)
        if not address:
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                "the broker's address is not known",
                Hints(missing="--address", next=f"pass --address or set {ADDRESS_VARIABLE}"),
            )
        for single in _split(address):
            _check(single, address)
        return cls(address, _identity(svid_dir, identity))

    @property
    def addresses(self) -> Sequence[str]:
        """Return each address by itself."""
        return _split(self.address)

    @property
    def svid_dir(self) -> Path:
        """Return the folder of the X.509-SVID, for servers that show it themselves.

        Raises:
            Refusal: INVALID_ARGUMENT, if the identity is of another kind.
        """
        if not isinstance(self.identity, SvidFolder):
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                "our identity is not an X.509-SVID in a folder",
                Hints(missing=SVID_DIR_VARIABLE, next=f"set {SVID_DIR_VARIABLE}"),
            )
        return self.identity.path

    def credentials(self) -> Credentials:
        """Return what to show now, once. May block for some seconds.

        Raises:
            Refusal: IDENTITY_MISSING, IDENTITY_EXPIRED or IDENTITY_INVALID.
        """
        with contextlib.closing(self.identity.open()) as source:
            return source.credentials()


def _split(address: str) -> tuple[str, ...]:
    return tuple(single.strip() for single in address.split(","))


def _check(single: str, address: str) -> None:
    """Refuse what can be no address, one of those in `address`."""
    port = single.rpartition(":")[2]
    if not single:
        problem = f"one of the brokers' addresses is empty: `{address}`"
    elif single.startswith(("http://", "https://")):
        problem = f"the broker's address is a URL: `{single}`"
    elif port.isdecimal() and (len(port) > len(_LAST_PORT) or int(port) > int(_LAST_PORT)):
        problem = f"the broker's address `{single}` has a port that is none: the last one is {_LAST_PORT}"
    else:
        return
    raise Refusal(Reason.INVALID_ARGUMENT, problem, Hints(next=_WRITTEN))


def _identity(svid_dir: str | Path | None, identity: Identity | None) -> Identity:
    if svid_dir and identity is not None:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            "two identities are given: the folder of an X.509-SVID, and another one",
            Hints(next="pass `svid_dir` or `identity`, and not both"),
        )
    if svid_dir:
        return SvidFolder(Path(svid_dir), _ca_file(os.environ))
    identity = identity or _from_environment(os.environ)
    if identity is None:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            "it is not known as whom to call the broker",
            Hints(
                missing="--svid-dir",
                next=f"pass --svid-dir, or set {SVID_DIR_VARIABLE}, {TOKEN_FILE_VARIABLE} or {SOCKET_VARIABLE}",
            ),
        )
    return identity


def _from_environment(variables: Mapping[str, str]) -> Identity | None:
    if folder := variables.get(SVID_DIR_VARIABLE):
        return SvidFolder(Path(folder), _ca_file(variables))
    if token_file := variables.get(TOKEN_FILE_VARIABLE):
        return TokenFile(Path(token_file), _ca_file(variables))
    if socket := variables.get(SOCKET_VARIABLE):
        return WorkloadSocket(socket, variables.get(TRUST_DOMAIN_VARIABLE, ""))
    return None


def _ca_file(variables: Mapping[str, str]) -> Path | None:
    path = variables.get(CA_FILE_VARIABLE)
    return Path(path) if path else None
