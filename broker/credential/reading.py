"""Reading the values of a token, strictly: each of exactly the type that its claim has."""

from __future__ import annotations

from typing import NoReturn

_LATEST = 253_402_300_799  # the end of the year 9999


def text(value: object, name: str) -> str:
    """Return a text that is not empty.

    Raises:
        ValueError: it is anything else; so do all functions here.
    """
    if not isinstance(value, str) or not value:
        refuse(f"`{name}` is not a text")
    return value


def integer(value: object, name: str) -> int:
    """Return a whole number that is not negative, and as an instant has a year of four digits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LATEST:
        refuse(f"`{name}` is not a whole number in range")
    return value


def filled_list(value: object, name: str) -> list[object]:
    """Return a list that is not empty."""
    if not isinstance(value, list) or not value:
        refuse(f"`{name}` is not a list")
    return value


def refuse(what: str) -> NoReturn:
    """Refuse what was read."""
    raise ValueError(what)
