"""A credential is bound to what its holder has proven; who has not proven what the resource asks for gets none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.lease.bind import Confirmation, bind
from broker.model.errors import Reason, Refusal
from broker.model.lease import Binding
from broker.model.principal import Principal
from tests.support.world import RESEARCHER

RUNNER = replace(RESEARCHER, id="oidc:ci:repo:acme/web", method="jwt")  # no certificate, and no SPIFFE ID
WITH_CERTIFICATE = replace(RESEARCHER, certificate="c" * 43)
WITH_KEY = replace(RUNNER, proof_key="k" * 43)


@pytest.mark.parametrize(
    ("binding", "agent", "confirmation"),
    [
        (Binding.IDENTITY, RESEARCHER, Confirmation(Binding.IDENTITY)),
        (Binding.CERTIFICATE, WITH_CERTIFICATE, Confirmation(Binding.CERTIFICATE, "c" * 43)),
        (Binding.DPOP, WITH_KEY, Confirmation(Binding.DPOP, "k" * 43)),
        (Binding.BEARER, RUNNER, Confirmation(Binding.BEARER)),
        (Binding.BEARER, WITH_KEY, Confirmation(Binding.DPOP, "k" * 43)),  # better than anybody's
    ],
)
def test_a_credential_is_bound_to_what_was_proven(
    binding: Binding, agent: Principal, confirmation: Confirmation
) -> None:
    assert bind(binding, agent) == confirmation


@pytest.mark.parametrize(
    ("binding", "told", "remedy"),
    [
        (Binding.IDENTITY, f"TLS identities, and `{RUNNER.id}` has none", "an X.509-SVID"),
        (Binding.CERTIFICATE, "certificates, and the caller shows none", "mutual TLS"),
        (Binding.DPOP, "keys (DPoP), and the caller has proven none", "a DPoP proof (RFC 9449)"),
    ],
)
def test_who_has_not_proven_it_is_told_what_to_ask_with(binding: Binding, told: str, remedy: str) -> None:
    with pytest.raises(Refusal) as refused:
        bind(binding, RUNNER)
    assert refused.value.reason is Reason.HOLDER_UNPROVEN
    assert refused.value.message == f"the resource binds its credentials to {told}"
    assert refused.value.hints.missing == f"binding:{binding.value}"
    assert remedy in refused.value.hints.next
