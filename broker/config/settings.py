"""The whole configuration: a TOML file, parsed once into one frozen value. An unknown key is an error."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from broker.config.identity import IdentitySettings, identity_settings
from broker.config.table import ConfigError, Table, is_url
from broker.keystore.announcing import Rotation
from broker.lease.desk import Limits
from broker.store.database import parse_url

_LABEL = "[A-Za-z0-9_-]{1,63}"  # of a host's name (RFC 1035 section 2.3.4)
_ADDRESS = re.compile(rf"(?:\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*\.?):([0-9]{{1,5}})")
_LAST_PORT = 65_535
_TABLES = ("broker", "listen", "identity", "database", "policy", "keys", "ledger", "limits")
_ORIGIN = re.compile(r"[^\s+]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """Where the keys are; a token key signs for `rotation`, and the next is published `lead` before its turn."""

    directory: Path
    rotation: timedelta = timedelta(days=30)
    lead: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """Where callers find the broker, as HOST:PORT; None, where that door stays shut.

    `address` is gRPC with mutual TLS; `jwt_address` gRPC with TLS of the server alone, for callers with JWTs;
    `http_address` the OAuth facade, over HTTPS, which shows our SVID, or else the certificate in `http_cert` and
    `http_key` (PEM), for clients who do not know the roots of our trust domain.
    """

    address: str = "127.0.0.1:8443"
    jwt_address: str | None = None
    http_address: str | None = None
    http_cert: Path | None = None
    http_key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the daemon is told. Relative paths are relative to the configuration file."""

    issuer: str
    listen: ListenSettings
    identity: IdentitySettings
    database_url: str
    migrate: bool
    policy_bundle: Path
    keys: KeySettings
    origin: str
    mark_dirs: tuple[Path, ...]
    copy_checkpoints_to: Path | None
    limits: Limits

    def rotation(self, spread: timedelta) -> Rotation:
        """Return when the token keys change; `spread` is how long it takes until all verifiers have a new one."""
        return Rotation(every=self.keys.rotation, lead=self.keys.lead, longest=self.limits.lifetime, spread=spread)


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
        return _settings(Table(document, ""), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _settings(top: Table, base: Path) -> Settings:
    tables = {name: top.table(name) for name in _TABLES}
    top.finish()  # a table with a typo in its name would be told as one that is missing
    broker, database, policy, ledger = (tables[name] for name in ("broker", "database", "policy", "ledger"))
    listen = _listen(tables["listen"], base)
    issuer, keys = _issuer(broker, listen), _keys(tables["keys"], base)
    settings = Settings(
        issuer=issuer,
        listen=listen,
        identity=identity_settings(tables["identity"], base, issuer),
        database_url=_database_url(database, base),
        migrate=database.flag("migrate", default=True),
        policy_bundle=base / policy.text("bundle"),
        keys=keys,
        origin=_origin(ledger, issuer),
        mark_dirs=_mark_dirs(ledger, base, keys.directory),
        copy_checkpoints_to=base / ledger.text("copy_checkpoints_to") if ledger.has("copy_checkpoints_to") else None,
        limits=_limits(tables["limits"]),
    )
    for table in (broker, database, policy, ledger):
        table.finish()
    return settings


def _listen(table: Table, base: Path) -> ListenSettings:
    settings = ListenSettings(
        address=_address(table, "address") or ListenSettings().address,
        jwt_address=_address(table, "jwt_address"),
        http_address=_address(table, "http_address"),
        http_cert=table.file("http_cert", base),
        http_key=table.file("http_key", base),
    )
    table.finish()
    _check_apart(settings, table)
    if (settings.http_cert is None) != (settings.http_key is None):
        raise table.wrong("http_cert", "goes with http_key: give both, or neither")
    if settings.http_cert and not settings.http_address:
        raise table.wrong("http_cert", "is for http_address, which is not there")
    return settings


def _check_apart(settings: ListenSettings, table: Table) -> None:
    """Refuse two listeners at one address. Port 0 is another one each time."""
    taken: dict[str, str] = {}
    for key in ("address", "jwt_address", "http_address"):
        address = getattr(settings, key)
        if address in taken:
            raise table.wrong(key, f"is that of listen.{taken[address]}: each listener needs a port of its own")
        if address is not None and not address.endswith(":0"):
            taken[address] = key


def _address(table: Table, key: str) -> str | None:
    if not table.has(key):
        return None
    address = table.text(key)
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[1]) > _LAST_PORT:
        raise table.wrong(key, "must be HOST:PORT, such as 0.0.0.0:8443 or [::1]:8443")
    return address


def _issuer(table: Table, listen: ListenSettings) -> str:
    """Take our name in tokens: a URL; with OAuth, one that is as RFC 8414 section 2 says."""
    if listen.http_address is None:
        return table.url("issuer", "https", "http")
    issuer = table.text("issuer")
    if not is_url(issuer, ("https",)) or issuer.endswith("/"):
        raise table.wrong("issuer", "must be an https URL without query, fragment and final `/`, with http_address")
    return issuer


def _origin(table: Table, issuer: str) -> str:
    """Take the ledger's name, which is the name of the key in its signed notes as well."""
    origin = table.text("origin", issuer.partition("://")[2].rstrip("/") + "/ledger")
    if not _ORIGIN.fullmatch(origin) or not origin.isprintable():
        raise ConfigError("ledger.origin: must be at most 255 printable characters, without spaces and `+`")
    return origin


def _mark_dirs(table: Table, base: Path, keys_dir: Path) -> tuple[Path, ...]:
    """Take where the mark of what was signed last is kept: beside the keys, unless told otherwise, and once more."""
    first = base / table.text("mark_dir") if table.has("mark_dir") else keys_dir
    return (first, base / table.text("second_mark_dir")) if table.has("second_mark_dir") else (first,)


def _database_url(table: Table, base: Path) -> str:
    url = table.text("url")
    try:
        parsed = parse_url(url)
    except ValueError as error:
        raise ConfigError(f"database.url: {error}") from error
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database:
            raise ConfigError("database.url: names no file; write sqlite:///PATH")
        parsed = parsed.set(database=str(base / parsed.database))
    return parsed.render_as_string(hide_password=False)


def _keys(table: Table, base: Path) -> KeySettings:
    settings = KeySettings(
        directory=base / table.text("dir"),
        rotation=table.duration("rotation", timedelta(days=30)),
        lead=table.duration("lead", timedelta(hours=24)),
    )
    table.finish()
    if settings.lead >= settings.rotation:
        raise ConfigError("keys.lead: must be shorter than keys.rotation")
    return settings


def _limits(table: Table) -> Limits:
    default = Limits()
    limits = Limits(
        lifetime=table.duration("lifetime", default.lifetime),
        bearer_lifetime=table.duration("bearer_lifetime", default.bearer_lifetime),
        total_lifetime=table.duration("total_lifetime", default.total_lifetime),
        task_lifetime=table.duration("task_lifetime", default.task_lifetime),
        leases_per_task=table.count("leases_per_task", default.leases_per_task),
        leases_per_minute=table.count("leases_per_minute", default.leases_per_minute),
        active_tasks=table.count("active_tasks", default.active_tasks),
        retention=table.duration("retention", default.retention),
    )
    table.finish()
    return limits
