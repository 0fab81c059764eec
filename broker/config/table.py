"""A TOML table that is read key by key, so that what is wrong, missing or unknown in it is named with the remedy."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from broker.model.duration import parse_duration
from broker.model.errors import CannotStart
from broker.model.grant import Scalar
from broker.model.nearest import meant, nearest

_SHORTEST = timedelta(seconds=1)
_OF_URLS = re.compile(r"""[^"<>\\^`{|}\x00-\x20\x7f-\U0010ffff]+""")  # RFC 3986 section 2


class ConfigError(CannotStart):
    """The configuration cannot be used. The message names the file, the key and the remedy."""


def is_url(text: str, schemes: Collection[str]) -> bool:
    """Report whether a text is a URL of one of these schemes, with a host, and without user, query and fragment."""
    if not _OF_URLS.fullmatch(text) or "?" in text or "#" in text:
        return False
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(host) and "@" not in parts.netloc


class Table:
    """A table. It notes which keys were asked for, so that the others can be named by `finish`."""

    def __init__(self, values: Mapping[str, object], path: str) -> None:
        self.path = path
        self._values = values
        self._asked: set[str] = set()

    def has(self, key: str) -> bool:
        """Report whether a key is there."""
        self._asked.add(key)
        return key in self._values

    def files(self, base: Path) -> dict[str, Path]:
        """Return all keys, whatever they are, with their values as paths."""
        return {key: base / self.text(key) for key in self._values}

    def file(self, key: str, base: Path) -> Path | None:
        """Return the path of a file or folder, relative to a base; None, if it is not there."""
        return base / self.text(key) if self.has(key) else None

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty. Without a default it must be there."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "must be a text", value)
        if not value or "\0" in value:  # no path has a NUL in it
            raise self.wrong(key, "must hold no NUL" if value else "must be a text that is not empty")
        return value

    def url(self, key: str, *schemes: str) -> str:
        """Return a URL of one of these schemes, with a host, and without user, query and fragment."""
        value = self.text(key)
        if not is_url(value, schemes):
            raise self.wrong(key, f"must be a URL such as {schemes[0]}://host.example, without query and fragment")
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; empty, if it is not there."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "must be a list of texts", value)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "must be true or false", value)
        return value

    def count(self, key: str, default: int) -> int:
        """Return a whole number from 1."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, "must be a whole number from 1", value)
        return value

    def duration(self, key: str, default: timedelta) -> timedelta:
        """Return a duration of at least a second."""
        value = self._get(key, default)
        if isinstance(value, timedelta):
            return value
        try:
            span = parse_duration(str(value))
        except ValueError as error:
            raise self.wrong(key, str(error)) from error
        if span < _SHORTEST:
            raise self.wrong(key, "must be at least a second")
        return span

    def table(self, key: str) -> Table:
        """Return a table; empty, if it is not there."""
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "must be a table", value)
        return Table(value, self._name(key))

    def tables(self, key: str) -> list[Table]:
        """Return a list of tables; empty, if it is not there."""
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, "must be a list of tables", value)
        return [Table(item, f"{self._name(key)}[{number}]") for number, item in enumerate(value)]

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self.unknown():
            known = f"; known here: {', '.join(sorted(self._asked))}"
            raise ConfigError(f"{self._name(key)}: unknown key{meant(key, self._asked) or known}")

    def unknown(self) -> list[str]:
        """Name the keys that nobody has asked for yet."""
        return [key for key in self._values if key not in self._asked]

    def _get(self, key: str, default: object) -> object:
        self._asked.add(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            near = nearest(key, self.unknown())
            raise ConfigError(f"{self._name(key)}: missing" + (f"; is `{near}` meant for it?" if near else ""))
        return default

    def wrong(self, key: str, what: str) -> ConfigError:
        """Return what is wrong with a key."""
        return ConfigError(f"{self._name(key)}: {what}")

    def scalars(self, key: str) -> tuple[Scalar, ...]:
        """Return one scalar, or a list of them, as several."""
        value = self._get(key, None)
        items = value if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, (str, int)) for item in items):
            raise self._wrong(key, "must be a text, a whole number or a flag, or a list of such", value)
        return tuple(items)

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _wrong(self, key: str, must: str, value: object) -> ConfigError:
        return ConfigError(f"{self._name(key)}: {must}, and is {type(value).__name__}")
