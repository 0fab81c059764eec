"""An X.509-SVID of our own to call a broker with, from the SPIFFE Workload API. Needs `credbroker[spiffe]`."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Hints, Reason, Refusal
from broker.sdk.connect.svid import MutualTls
from broker.system import system_clock
from broker.trust.source import SvidMaterial
from broker.trust.workload_api import WorkloadApi, WorkloadApiError

_AGENT_SECONDS = 10.0


class Workload:
    """What the agent pushed last, for as long as that gives us an identity. Threads follow it until it is closed."""

    def __init__(self, socket: str, trust_domain: str = "") -> None:
        """Wait for our SVID, and block for ten seconds at most. `trust_domain` is the broker's, if it is not ours.

        Raises:
            Refusal: IDENTITY_MISSING, naming the socket and the remedy.
        """
        self._trust_domain = trust_domain
        try:
            self._api = WorkloadApi(socket, system_clock, _AGENT_SECONDS)
        except WorkloadApiError as error:
            raise Refusal(Reason.IDENTITY_MISSING, str(error)) from error
        self._taken = (0, MutualTls(b"", b"", b""))

    def credentials(self) -> MutualTls:
        """Return what we show now.

        Raises:
            Refusal: IDENTITY_EXPIRED; IDENTITY_MISSING, if the agent says that we have no identity any more, or has no
                roots of the broker's trust domain for us.
        """
        self._api.refresh()
        material = self._api.material
        if system_clock() >= material.not_after:
            raise self._ended(material)
        if self._taken[0] != material.generation:
            self._taken = material.generation, self._mutual_tls(material)
        return self._taken[1]

    def close(self) -> None:
        """Follow no more."""
        self._api.close()

    def _ended(self, material: SvidMaterial) -> Refusal:
        ends = [found.not_valid_after_utc for found in x509.load_pem_x509_certificates(material.cert_chain_pem)]
        expired = system_clock() >= min(ends)
        return Refusal(
            Reason.IDENTITY_EXPIRED if expired else Reason.IDENTITY_MISSING,
            self._api.problem or "the Workload API gives us no identity any more",
            Hints(next="see that the agent runs, and that it has an entry for this process"),
        )

    def _mutual_tls(self, material: SvidMaterial) -> MutualTls:
        """Trust the broker's trust domain alone: the CAs of others could make certificates for its host."""
        trust_domain = self._trust_domain or _trust_domain_of(material)
        roots = material.trust_bundles.roots.get(trust_domain)
        if roots is None:
            raise Refusal(
                Reason.IDENTITY_MISSING,
                f"the Workload API gives us no roots of `{trust_domain}`, the broker's trust domain",
                Hints(next=f"let our entry federate with it (SPIRE: -federatesWith spiffe://{trust_domain})"),
            )
        bundle_pem = b"".join(root.public_bytes(Encoding.PEM) for root in roots)
        return MutualTls(bundle_pem, material.private_key_pem, material.cert_chain_pem, where="the Workload API's SVID")


def _trust_domain_of(material: SvidMaterial) -> str:
    names = x509.load_pem_x509_certificate(material.cert_chain_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    (uri,) = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    return parse_spiffe_id(uri).trust_domain
