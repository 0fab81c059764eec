"""The configuration: a TOML file, parsed once into one frozen value. An unknown key is an error, not a wish."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from broker.identity.directory import Rule, parse_denied
from broker.lease.desk import Limits
from broker.model.principal import ANY_TENANT, Group
from broker.store.database import parse_url

_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_ORIGIN = re.compile(r"[^\s+]{1,255}")
_LONGEST_TENANT = 255  # as the database's columns
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_WITHOUT_TENANT = frozenset({Group.AGENTS, Group.ORCHESTRATORS})


class ConfigError(Exception):
    """The configuration cannot be used. The message names the file, the key and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Where the broker's own SVID and the trust bundles are, and which workload is what.

    `bundles` maps further trust domains to PEM files; `denied` lists SPIFFE IDs and certificate serials (hex) that are
    refused whatever else holds.
    """

    svid_dir: Path
    rules: tuple[Rule, ...]
    bundles: Mapping[str, Path] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """Where the keys are; a token key signs for `rotation`, and the next is published `lead` before its turn."""

    directory: Path
    rotation: timedelta = timedelta(days=30)
    lead: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the daemon is told. Relative paths are relative to the configuration file."""

    issuer: str
    address: str
    identity: IdentitySettings
    database_url: str
    migrate: bool
    policy_bundle: Path
    keys: KeySettings
    origin: str
    limits: Limits


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: it is missing, no TOML, or holds a wrong, missing or unknown key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; `credbroker dev` writes one to start from") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return _settings(_Table(document, ""), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `90s`, `5m`, `24h` or `7d`.

    Raises:
        ValueError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        msg = f"`{text}` is not a duration; write a whole number and a unit, such as 90s, 5m, 24h or 7d"
        raise ValueError(msg)
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        msg = f"`{text}` is longer than a million years"
        raise ValueError(msg) from None


def _settings(top: _Table, base: Path) -> Settings:
    broker, listen, database = top.table("broker"), top.table("listen"), top.table("database")
    policy, ledger = top.table("policy"), top.table("ledger")
    issuer = broker.text("issuer")
    settings = Settings(
        issuer=issuer,
        address=listen.text("address", "127.0.0.1:8443"),
        identity=_identity(top.table("identity"), base),
        database_url=_database_url(database, base),
        migrate=database.flag("migrate", default=True),
        policy_bundle=base / policy.text("bundle"),
        keys=_keys(top.table("keys"), base),
        origin=_origin(ledger, issuer),
        limits=_limits(top.table("limits")),
    )
    for table in (broker, listen, database, policy, ledger, top):
        table.finish()
    return settings


def _origin(table: _Table, issuer: str) -> str:
    """Take the ledger's name, which is the name of the key in its signed notes as well."""
    origin = table.text("origin", issuer.partition("://")[2].rstrip("/") + "/ledger")
    if not _ORIGIN.fullmatch(origin) or not origin.isprintable():
        raise ConfigError("ledger.origin: must be at most 255 printable characters, without spaces and `+`")
    return origin


def _identity(table: _Table, base: Path) -> IdentitySettings:
    bundles = table.table("bundles")
    settings = IdentitySettings(
        svid_dir=base / table.text("svid_dir"),
        rules=tuple(_rule(rule) for rule in table.tables("rule")),
        bundles={trust_domain: base / bundles.text(trust_domain) for trust_domain in bundles.keys()},  # noqa: SIM118 (no dict)
        denied=_denied(table),
    )
    table.finish()
    return settings


def _denied(table: _Table) -> frozenset[str]:
    try:
        return frozenset(parse_denied(text) for text in table.texts("denied"))
    except ValueError as error:
        raise ConfigError(f"{table.path}.denied: {error}") from error


def _rule(table: _Table) -> Rule:
    match, tenant, names = table.text("match"), table.text("tenant"), table.texts("groups")
    table.finish()
    try:
        groups = frozenset(Group(name) for name in names)
    except ValueError as error:
        raise ConfigError(f"{table.path}.groups: {error}; the groups are {', '.join(Group)}") from error
    if len(tenant) > _LONGEST_TENANT or not tenant.isprintable():
        raise ConfigError(f"{table.path}.tenant: must be at most {_LONGEST_TENANT} printable characters")
    if tenant == ANY_TENANT and groups & _WITHOUT_TENANT:
        raise ConfigError(f"{table.path}.tenant: agents and orchestrators belong to one tenant; `*` is for the others")
    try:
        return Rule(match=match, tenant=tenant, groups=groups)
    except ValueError as error:
        raise ConfigError(f"{table.path}.match: {error}") from error


def _database_url(table: _Table, base: Path) -> str:
    url = table.text("url")
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise ConfigError(f"database.url: {error}") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        parsed = parsed.set(database=str(base / parsed.database))
    return parsed.render_as_string(hide_password=False)


def _keys(table: _Table, base: Path) -> KeySettings:
    settings = KeySettings(
        directory=base / table.text("dir"),
        rotation=table.duration("rotation", timedelta(days=30)),
        lead=table.duration("lead", timedelta(hours=24)),
    )
    table.finish()
    if settings.lead >= settings.rotation:
        raise ConfigError("keys.lead: must be shorter than keys.rotation")
    return settings


def _limits(table: _Table) -> Limits:
    default = Limits()
    limits = Limits(
        lifetime=table.duration("lifetime", default.lifetime),
        total_lifetime=table.duration("total_lifetime", default.total_lifetime),
        task_lifetime=table.duration("task_lifetime", default.task_lifetime),
        leases_per_task=table.count("leases_per_task", default.leases_per_task),
        leases_per_minute=table.count("leases_per_minute", default.leases_per_minute),
        active_tasks=table.count("active_tasks", default.active_tasks),
        retention=table.duration("retention", default.retention),
    )
    table.finish()
    return limits


class _Table:
    """A TOML table that notes which keys were asked for, so that the others can be named."""

    def __init__(self, values: Mapping[str, object], path: str) -> None:
        self.path = path
        self._values = values
        self._asked: set[str] = set()

    def keys(self) -> list[str]:
        return list(self._values)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "must be a text", value)
        return value

    def texts(self, key: str) -> list[str]:
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "must be a list of texts", value)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "must be true or false", value)
        return value

    def count(self, key: str, default: int) -> int:
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, "must be a whole number from 1", value)
        return value

    def duration(self, key: str, default: timedelta) -> timedelta:
        value = self._get(key, default)
        if isinstance(value, timedelta):
            return value
        try:
            found = parse_duration(str(value))
        except ValueError as error:
            raise ConfigError(f"{self._name(key)}: {error}") from error
        if not found:
            raise self._wrong(key, "must be longer than nothing", value)
        return found

    def table(self, key: str) -> _Table:
        value = self._get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "must be a table", value)
        return _Table(value, self._name(key))

    def tables(self, key: str) -> list[_Table]:
        value = self._get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, "must be a list of tables", value)
        return [_Table(item, f"{self._name(key)}[{number}]") for number, item in enumerate(value)]

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, 1)
                hint = f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(sorted(self._asked))}"
                raise ConfigError(f"{self._name(key)}: unknown key{hint}")

    def _get(self, key: str, default: object) -> object:
        self._asked.add(key)
        if key in self._values:
            return self._values[key]
        if default is None:
            raise ConfigError(f"{self._name(key)}: missing")
        return default

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _wrong(self, key: str, must: str, value: object) -> ConfigError:
        return ConfigError(f"{self._name(key)}: {must}, and is {type(value).__name__}")
