"""`credbroker bench verify`: the verifier's checks, beside the bare signature that they cannot do without."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from broker.cli.bench.measure import micros_each
from broker.cli.failure import Stop
from broker.cli.unverified import decode
from broker.credential.keys import KeySet
from broker.sdk.verify.presentation import Presentation
from broker.sdk.verify.verifier import Verifier

_MICROS = 1_000_000
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class _Bare:
    """A token, taken apart beforehand to what ES256 needs."""

    key: ec.EllipticCurvePublicKey
    signed: bytes
    signature_der: bytes


def measure(verifier: Verifier, tokens: Sequence[str], tool: str, holder: str, rounds: int) -> dict[str, Any]:
    """Check tokens for a call of the tool by its holder: never seen, seen before, and with bare ES256, by turns.

    The server whose processor time is given is the tool server, this process; its requests are tokens never seen.
    """
    presentation = Presentation(spiffe_id=holder)
    bare = [_bare(token, verifier.keys) for token in tokens]
    first: list[float] = []
    again: list[float] = []
    alone: list[float] = []
    processor = 0.0
    arguments = {"repo": "acme/web", "path": "README.md"}
    for _ in range(rounds):
        alone.append(_seconds_each(bare, lambda item: item.key.verify(item.signature_der, item.signed, _ECDSA)))
        verifier.use_keys(verifier.issuer, verifier.keys)  # which forgets all tokens
        before = time.process_time()
        first.append(_seconds_each(tokens, lambda token: verifier.check(token, tool, arguments, presentation)))
        processor += time.process_time() - before
        again.append(_seconds_each(tokens, lambda token: verifier.check(token, tool, arguments, presentation)))
    return {
        "ratio_to_bare_es256": _quotient(alone, first),
        "cached_speedup": _quotient(first, again),
        "server_cpu_us_per_request": micros_each(processor, rounds * len(tokens)),
        "first_us": round(median(first) * _MICROS, 2),
        "cached_us": round(median(again) * _MICROS, 2),
        "bare_es256_us": round(median(alone) * _MICROS, 2),
        "tokens": len(tokens),
    }


def _seconds_each(items: Sequence[Any], act: Callable[[Any], object]) -> float:
    before = time.perf_counter()
    for item in items:
        act(item)
    return (time.perf_counter() - before) / len(items)


def _quotient(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median over the rounds: neighbours in time are compared."""
    return round(median(a / b for a, b in zip(over, under, strict=True)), 3)


def _bare(token: str, keys: KeySet) -> _Bare:
    key = keys.find(str(decode(token).header.get("kid")))
    if key is None:
        raise Stop("the broker's key set does not hold the key of its own token")
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return _Bare(key.key, signed.encode(), encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])))
