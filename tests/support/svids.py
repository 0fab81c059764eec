"""An authenticator, the trust domains that it knows, and certificates under their roots."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.identity.directory import Directory, IdentityRule
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator, PeerEvidence
from broker.model.errors import Reason, Refusal
from broker.model.principal import Principal, Role
from broker.system import system_clock
from tests.support.certificates import (
    Made,
    Shape,
    ca_shape,
    make,
    root,
)

NOW = system_clock().replace(microsecond=0)
OURS, THEIRS, STRANGERS = root("ours", NOW), root("theirs", NOW), root("strangers", NOW)
RESEARCHER, ADMIN = "spiffe://example.org/agent/researcher", "spiffe://example.org/admin"
RULES = (
    IdentityRule("spiffe://example.org/agent/*", "acme", frozenset({Role.AGENTS})),
    IdentityRule(ADMIN, "*", frozenset({Role.OPERATORS})),
    IdentityRule("spiffe://other.example/*", "other", frozenset({Role.VERIFIERS})),
)
SECOND = timedelta(seconds=1)


@dataclass
class World:
    """The broker's side: bundles that can change, and an authenticator."""

    bundles: TrustBundles = field(
        default_factory=lambda: TrustBundles(
            1, {"example.org": (OURS.certificate,), "other.example": (THEIRS.certificate,)}
        )
    )
    denied: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(lambda: self.bundles, Directory(RULES, self.denied))

    def ask(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Principal:
        evidence = PeerEvidence("ssl", "TLSv1.3", leaf.pem, b"".join(link.pem for link in chain))
        return self.authenticator.authenticate(evidence, at)

    def refusal(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.ask(leaf, *chain, at=at)
        return caught.value

    def refuses(self, leaf: Made, *chain: Made, at: datetime = NOW) -> Reason:
        return self.refusal(leaf, *chain, at=at).reason


def leaf(issuer: Made | None = OURS, **changes: Any) -> Made:
    return make(replace(Shape(), **changes), NOW, issuer)


def ca(issuer: Made | None = OURS, **changes: Any) -> Made:
    return make(replace(ca_shape("intermediate"), **changes), NOW, issuer)
