"""A text that does not show itself."""

from __future__ import annotations

from typing import NoReturn

_HIDDEN = "[hidden]"


class Secret:
    """A token in hand (law 7). It shows itself to `reveal` alone: not when printed, formatted, compared or pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({_HIDDEN})"

    def __str__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled")
