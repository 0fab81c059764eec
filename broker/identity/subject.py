"""Subject templates: which claims of a JWT make the subject of its principal, as in `{repository_id}:{environment}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.model import json_pointer

_PLACE = re.compile(r"\{([^{}]+)\}")


def claim_at(name: str, claims: Mapping[str, Any]) -> object:
    """Find a claim by its name or a JSON Pointer (`/kubernetes.io/namespace`); else give `json_pointer.MISSING`."""
    if name.startswith("/"):
        return json_pointer.find(name, claims)
    return claims.get(name, json_pointer.MISSING)


@dataclass(frozen=True, slots=True)
class SubjectTemplate:
    """A template. `texts` stand around the claims: one more of them than `names`."""

    names: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def parse(cls, template: str) -> SubjectTemplate:
        """Parse a template.

        Raises:
            ValueError: it names no claim, or two side by side, which could not be told apart.
        """
        parts = _PLACE.split(template)
        texts, names = tuple(parts[::2]), tuple(parts[1::2])
        if not names or any("{" in text or "}" in text for text in texts):
            raise ValueError("must name claims, such as {sub} or {repository_id}:{environment}")
        if not all(texts[1:-1]):
            raise ValueError("needs a text between two claims")
        return cls(names, texts)

    def render(self, claims: Mapping[str, Any]) -> str:
        """Make the subject. Different values of the claims make different subjects.

        Raises:
            ValueError: a claim is missing, no text or whole number, or holds what separates it from what follows.
        """
        rendered = self.texts[0]
        for name, following in zip(self.names, self.texts[1:], strict=True):
            value = claim_at(name, claims)
            if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
                raise ValueError(f"the claim `{name}` is missing, or neither text nor whole number")
            if following and following[0] in str(value):
                raise ValueError(f"the claim `{name}` holds `{following[0]}`, which ends it in the subject's template")
            rendered += f"{value}{following}"
        return rendered
