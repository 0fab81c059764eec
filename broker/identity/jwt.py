"""JWTs of workloads: JWT-SVIDs, and the tokens of OIDC issuers that the configuration trusts; seven checks a call.

1. the form: a compact JWS of at most 8 KiB, strict base64url and JSON, and a header without anything to steer us;
2. who says so: `iss` is exactly a trusted issuer's, or else `sub` is a SPIFFE ID of a trust domain of ours;
3. the signature, by a key of that very issuer or trust domain, with an algorithm that is allowed there;
4. `aud` is our audience and no other;
5. the time: not expired, not from the future, not meant to live for longer than is allowed;
6. the claims keep the issuer's conditions;
7. the subject is not denied, and a rule of the configuration says what it is.

Whether who brings it has the key that it is bound to (`cnf`), if it is, its caller checks.

What does not change with time is remembered per token and keys; 5 is checked each time. Nothing is ever fetched because
a token says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from broker.identity.directory import Directory
from broker.identity.ids import oidc_id
from broker.identity.issuers import CurrentKeys, Issuer
from broker.identity.jwks import JsonWebKeySet
from broker.identity.spiffe import parse_spiffe_id
from broker.identity.subject import claim_at
from broker.identity.trust_bundles import TrustBundles
from broker.model import compact_jws, json_pointer, numeric_date
from broker.model.bounded_cache import BoundedCache
from broker.model.duration import format_duration
from broker.model.errors import Hints, Reason, Refusal
from broker.model.principal import Principal

_REMEMBERED = 10_000
_LEEWAY = timedelta(seconds=30)  # for issuers whose clock is ahead; none is given to expiry
_SVID_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}
)  # JWT-SVID section 2.1
_SVID_MAX_LIFETIME = timedelta(hours=1)
_HEADER_NAMES = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_SVID_TYPES = frozenset({None, "JWT", "JOSE"})  # JWT-SVID section 2.3
# RFC 7523 and its revision. Proofs of possession and security events have types of their own.
_TYPES = frozenset({*_SVID_TYPES, "client-authentication+jwt"})
_TASK = re.compile(r"[!-~]{1,128}")  # as ids of all kinds are written
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})  # RFC 9068 section 2.1
_LONGEST_KID = 128


class UnknownIssuerKey(Refusal):
    """A token of a trusted issuer that none of its keys verifies: it is forged, or the issuer has a new one.

    If it names one of its keys, or names none though they all have names, it is `forged`, as far as we can tell.
    """

    def __init__(self, issuer: Issuer, *, forged: bool = False) -> None:
        what = "the token's signature is wrong: it is with" if forged else "the token is signed with"
        super().__init__(
            Reason.IDENTITY_INVALID,
            f"{what} a key that `{issuer.url}` does not publish",
            Hints(next="fetch a fresh token from the issuer"),
        )
        self.issuer = issuer
        self.forged = forged


@dataclass(frozen=True, slots=True)
class JwtEvidence:
    """What a token has proven.

    `once` identifies it where it may be used one time only, and `key` is the thumbprint (RFC 7638) of the key of which
    who brings it must have proof, where it says so (RFC 9449 section 6.1); else they are empty.
    """

    principal: Principal
    issued_at: datetime
    once: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class _VerifiedToken:
    evidence: JwtEvidence
    not_before: datetime


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A token in its parts, of which nothing is proven yet."""

    token: str
    algorithm: str
    kid: str | None
    kind: str | None
    claims: Mapping[str, Any]


class JwtAuthenticator:
    """Makes principals of tokens. Keys and bundles are asked for on each call, so that a removed key counts at once."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        keys: Callable[[Issuer], CurrentKeys],
        bundles: Callable[[], TrustBundles],
        audience: str,
        directory: Directory,
    ) -> None:
        """Make an authenticator of issuers by their `url`; `audience` is that of JWT-SVIDs."""
        self._issuers = issuers
        self._keys = keys
        self._bundles = bundles
        self._audience = audience
        self._directory = directory
        self._remembered: BoundedCache[tuple[bytes, int, int], _VerifiedToken] = BoundedCache(_REMEMBERED)

    def authenticate(self, token: str, at: datetime) -> JwtEvidence:
        """Return what a token proves.

        Raises:
            UnknownIssuerKey: the issuer's keys may be out of date.
            Refusal: IDENTITY_INVALID, IDENTITY_EXPIRED, IDENTITY_UNKNOWN; UNAVAILABLE, if there are no keys to check
                it with.
        """
        parsed = _parse(token)
        issuer = self._issuers.get(str(parsed.claims.get("iss")))
        bundles = self._bundles()
        keys = self._keys(issuer) if issuer else None
        key = (hashlib.sha256(token.encode()).digest(), bundles.generation, keys.generation if keys else -1)
        verified = self._remembered.get(key)
        if verified is None:
            verified = self._oidc(parsed, issuer, keys, at) if issuer and keys else self._svid(parsed, bundles, at)
            self._remembered.keep(key, verified)
        _check_time(verified.not_before, verified.evidence.principal.not_after, at)
        return verified.evidence

    def _oidc(self, parsed: _Parsed, issuer: Issuer, keys: CurrentKeys, at: datetime) -> _VerifiedToken:
        _check_algorithm(parsed, issuer.algorithms)
        if parsed.kind in _ACCESS_TYPES and not issuer.access_tokens:
            _refuse(
                f"the token's `typ` is that of an access token, which are not taken of `{issuer.name}`;"
                " its block in the configuration takes them with `access_tokens`"
            )
        if not _is_signed_by(parsed, keys.keys):
            raise UnknownIssuerKey(issuer, forged=keys.keys.knows(parsed.kid))
        claims = parsed.claims
        not_before, not_after = _check_claims(claims, issuer.audience, issuer.max_lifetime, at)
        if "iat" not in claims:
            _refuse("the token does not say when it was issued (`iat`)")
        for condition in issuer.conditions:
            if not condition.holds(claims):
                _refuse(f"the claim `{condition.claim}` is not what the configuration asks of `{issuer.name}`")
        try:
            name = oidc_id(issuer.name, issuer.subject.render(claims))
        except ValueError as error:
            _refuse(f"the token's subject cannot be told: {error}")
        principal = self._directory.identify(
            name, method="oidc", proof=_digest(parsed.token), not_after=not_after, task_id=_task(issuer, claims)
        )
        issued_at = _instant(claims, "iat", numeric_date.at_latest) or at
        return _VerifiedToken(JwtEvidence(principal, issued_at, _once(issuer, claims), _key(claims)), not_before)

    def _svid(self, parsed: _Parsed, bundles: TrustBundles, at: datetime) -> _VerifiedToken:
        _check_algorithm(parsed, _SVID_ALGORITHMS)
        if parsed.kind not in _SVID_TYPES:
            _refuse("the token's `typ` is not that of a JWT-SVID")
        try:
            spiffe_id = parse_spiffe_id(str(parsed.claims.get("sub")))
        except ValueError:
            _refuse("the token is of no issuer that is trusted here, and its `sub` is no SPIFFE ID")
        if not spiffe_id.path:
            _refuse("the token is in the name of a trust domain, not of a workload")
        keys = bundles.jwt_keys.get(spiffe_id.trust_domain)
        if keys is None:
            _refuse(f"the trust domain `{spiffe_id.trust_domain}` is not one whose JWT-SVIDs are taken")
        if parsed.kid is not None and not keys.find(parsed.kid):
            _refuse("the token is signed with a key that is not in the bundle of its trust domain")
        _check_signature(parsed, keys)
        not_before, not_after = _check_claims(parsed.claims, self._audience, _SVID_MAX_LIFETIME, at)
        principal = self._directory.identify(
            str(spiffe_id), method="jwt_svid", proof=_digest(parsed.token), not_after=not_after
        )
        issued_at = _instant(parsed.claims, "iat", numeric_date.at_latest) or at
        return _VerifiedToken(JwtEvidence(principal, issued_at, key=_key(parsed.claims)), not_before)


def _parse(token: str) -> _Parsed:
    """Check 1."""
    try:
        header_segment, payload_segment, _ = compact_jws.split(token)
        header = compact_jws.members(header_segment)
        claims = compact_jws.members(payload_segment, fractions=True)
    except ValueError as error:
        _refuse(f"the token is malformed: {error}")
    if stray := sorted(header.keys() - _HEADER_NAMES):
        _refuse(f"the token's header has `{stray[0][:32]}`, which is not taken from a token")
    for name, value in header.items():
        if not isinstance(value, str):
            _refuse(f"the token's `{name}` is not a text")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm is None:
        _refuse("the token's header names no algorithm")
    if kid is not None and not 0 < len(kid) <= _LONGEST_KID:
        _refuse(f"the token's `kid` is not a text of at most {_LONGEST_KID} characters")
    if kind not in _TYPES | _ACCESS_TYPES:
        _refuse("the token's `typ` is not that of a token that proves an identity")
    return _Parsed(token, algorithm, kid, kind, claims)


def _check_algorithm(parsed: _Parsed, allowed: frozenset[str]) -> None:
    if parsed.algorithm not in allowed:
        _refuse(f"the token's algorithm is not one of {', '.join(sorted(allowed))}")


def _check_signature(parsed: _Parsed, keys: JsonWebKeySet) -> None:
    """Check 3."""
    if not _is_signed_by(parsed, keys):
        _refuse("the token's signature is wrong")


def _is_signed_by(parsed: _Parsed, keys: JsonWebKeySet) -> bool:
    """Report whether one of the keys made the signature; without a `kid`, it may be any of them."""
    return any(key.verify(parsed.token, parsed.algorithm) for key in keys.find(parsed.kid))


def _check_claims(
    claims: Mapping[str, Any], audience: str, max_lifetime: timedelta, at: datetime
) -> tuple[datetime, datetime]:
    """Check 4, and of 5 what does not change; return the span in which the token is good."""
    audiences = claims.get("aud")
    if audiences not in (audience, [audience]):
        _refuse(f"the token is not for `{audience}` alone (`aud`)")
    not_after = _instant(claims, "exp", numeric_date.at_latest)
    if not_after is None:
        _refuse("the token does not say when it expires (`exp`)")
    if not_after - (_instant(claims, "iat", numeric_date.at_latest) or at) > max_lifetime:
        _refuse(f"the token is meant to live for longer than {format_duration(max_lifetime)}")
    starts = [_instant(claims, name, numeric_date.at_earliest) for name in ("iat", "nbf")]
    return max((start for start in starts if start is not None), default=at) - _LEEWAY, not_after


def _check_time(not_before: datetime, not_after: datetime, at: datetime) -> None:
    """Check 5."""
    if at >= not_after:
        raise Refusal(
            Reason.IDENTITY_EXPIRED, "the token has expired", Hints(next="fetch a fresh token from its issuer")
        )
    if at < not_before:
        _refuse("the token is not valid yet; compare the clocks")


def _instant(claims: Mapping[str, Any], name: str, read: Callable[[object], datetime]) -> datetime | None:
    if name not in claims:
        return None
    try:
        return read(claims[name])
    except ValueError as error:
        _refuse(f"the token's `{name}` {error}")


def _task(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    if not issuer.task_claim:
        return ""
    task_id = claim_at(issuer.task_claim, claims)
    if task_id is json_pointer.MISSING:
        return ""
    if not isinstance(task_id, str) or not _TASK.fullmatch(task_id):
        _refuse(f"the claim `{issuer.task_claim}` does not name a task")
    return task_id


def _once(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    if not issuer.one_time:
        return ""
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        _refuse(f"tokens of `{issuer.name}` are good for one time, and this one has no `jti`")
    return hashlib.sha256(f"{issuer.name}\n{jti}".encode()).hexdigest()


def _key(claims: Mapping[str, Any]) -> str:
    """Say to which key a token is bound (RFC 7800). What cannot be proven here makes it good in nobody's hands."""
    if "cnf" not in claims:
        return ""
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or confirmation.keys() != {"jkt"}:
        names = ", ".join(f"`{name[:32]}`" for name in confirmation) if isinstance(confirmation, dict) else ""
        _refuse(
            f"the token is bound to a key (`cnf`) by {names or 'nothing'}, which cannot be proven here; what can is"
            " `jkt` alone, by DPoP"
        )
    if not isinstance(confirmation["jkt"], str) or not _THUMBPRINT.fullmatch(confirmation["jkt"]):
        _refuse("the token's `cnf` holds a `jkt` that is no thumbprint")
    return confirmation["jkt"]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refuse(what: str) -> NoReturn:
    raise Refusal(Reason.IDENTITY_INVALID, what, Hints(next="fetch a fresh token, for the broker, from its issuer"))
