"""What secrets look like, so that text that people and machines write freely holds none of them (law 7)."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
_SHAPES = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a JSON Web Token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",  # a user and password in a URL
    re.DOTALL,
)


def hide(text: str) -> str:
    """Return a text with what looks like a secret hidden."""
    return _SHAPES.sub(HIDDEN, text)
