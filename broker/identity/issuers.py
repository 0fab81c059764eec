"""Whose JWTs we take, and on which terms: one block of the configuration per issuer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from broker.identity.jwks import ALGORITHMS, JsonWebKeySet
from broker.identity.subject import SubjectTemplate, claim_at
from broker.model.grant import Scalar


@dataclass(frozen=True, slots=True)
class Condition:
    """What a claim must be: one of some values, of the same type; or a text that begins with a prefix."""

    claim: str
    values: tuple[Scalar, ...] = ()
    prefix: str = ""

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Report whether it holds. A claim that is missing keeps no condition."""
        claimed = claim_at(self.claim, claims)
        if self.prefix:
            return isinstance(claimed, str) and claimed.startswith(self.prefix)
        return any(type(claimed) is type(value) and claimed == value for value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A trusted issuer. `url` is compared with `iss` character by character; `name` stands for it in principals' ids.

    A token is for `audience` alone, lives at most `max_lifetime` from `iat` to `exp`, and is used once if `one_time`.
    `task_claim` names the claim that says which task a token is good for. With `access_tokens`, its access tokens
    (RFC 9068) prove an identity, too, if they are for the same audience.
    """

    name: str
    url: str
    audience: str
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    max_lifetime: timedelta = timedelta(hours=1)
    subject: SubjectTemplate = field(default_factory=lambda: SubjectTemplate.parse("{sub}"))
    conditions: tuple[Condition, ...] = ()
    task_claim: str = ""
    one_time: bool = False
    access_tokens: bool = False

    def __post_init__(self) -> None:
        """Refuse algorithms that are none of ours."""
        unknown = self.algorithms - ALGORITHMS
        if unknown or not self.algorithms:
            raise ValueError(f"the algorithms are {', '.join(sorted(ALGORITHMS))}")


@dataclass(frozen=True, slots=True)
class CurrentKeys:
    """The keys of one issuer as they are now. `generation` differs whenever they do."""

    generation: int
    keys: JsonWebKeySet
