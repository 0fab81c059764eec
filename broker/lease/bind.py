"""Bind a credential to its holder: policy says how, and the caller has proven what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from broker.model.errors import Hints, Reason, Refusal
from broker.model.lease import Binding
from broker.model.principal import Principal


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What confirms the holder of a credential (RFC 7800 section 3.1); `thumbprint` is `Lease.confirmation`."""

    binding: Binding
    thumbprint: str = ""


def bind(binding: Binding, agent: Principal) -> Confirmation:
    """Bind a credential as policy asks for its resource. What anybody may bear is bound to a key that was proven.

    Raises:
        Refusal: HOLDER_UNPROVEN.
    """
    match binding:
        case Binding.IDENTITY:
            if not agent.id.startswith("spiffe:"):
                raise _unproven(f"TLS identities, and `{agent.id}` has none", "identity", "an X.509-SVID")
        case Binding.CERTIFICATE:
            if not agent.certificate:
                raise _unproven("certificates, and the caller shows none", "certificate", "mutual TLS")
            return Confirmation(binding, agent.certificate)
        case Binding.DPOP | Binding.BEARER:
            if agent.proof_key:
                return Confirmation(Binding.DPOP, agent.proof_key)
            if binding is Binding.DPOP:
                raise _unproven("keys (DPoP), and the caller has proven none", "dpop", "a DPoP proof (RFC 9449)")
        case _:
            assert_never(binding)
    return Confirmation(binding)


def _unproven(what: str, binding: str, remedy: str) -> Refusal:
    return Refusal(
        Reason.HOLDER_UNPROVEN,
        f"the resource binds its credentials to {what}",
        Hints(missing=f"binding:{binding}", next=f"ask with {remedy}, or have the resource's binding changed"),
    )
