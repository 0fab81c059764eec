"""Who we are, whom we believe, and which workload is what: the table `[identity]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from broker.config.table import ConfigError, Table, is_url
from broker.identity.directory import IdentityRule, parse_denied
from broker.identity.ids import ISSUER_NAME
from broker.identity.issuers import Condition, Issuer
from broker.identity.spiffe import parse_spiffe_id
from broker.identity.subject import SubjectTemplate
from broker.intent.scopes import check_resource
from broker.model.errors import Refusal
from broker.model.json_pointer import is_pointer
from broker.model.nearest import meant
from broker.model.principal import ANY_TENANT, Role
from broker.trust.issuer_keys import KeySource

_LONGEST_TENANT = 255  # as the database's columns
_WITHOUT_TENANT = frozenset({Role.AGENTS, Role.ORCHESTRATORS})
_CONDITIONS = ("equals", "in", "prefix")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """Where the broker's own SVID and the trust bundles are, which issuers are trusted, and which workload is what.

    The SVID comes from files in `svid_dir`, or from the Workload API at the socket `workload_api`. In files,
    `trust_bundles` maps further trust domains to their roots in PEM, and `jwt_bundles` trust domains to the JWKS of
    their JWT-SVIDs.
    `audience` is what JWT-SVIDs must be for. `issuers` are by their URL. `denied` lists principals and certificate
    serials (hex) that are refused whatever else holds.
    """

    rules: tuple[IdentityRule, ...]
    audience: str
    svid_dir: Path | None = None
    workload_api: str = ""
    trust_bundles: Mapping[str, Path] = field(default_factory=dict)
    jwt_bundles: Mapping[str, Path] = field(default_factory=dict)
    issuers: Mapping[str, tuple[Issuer, KeySource]] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()


def identity_settings(table: Table, base: Path, our_issuer: str) -> IdentitySettings:
    """Parse the table.

    Raises:
        ConfigError: something in it is wrong.
    """
    audience = table.text("audience", our_issuer)
    settings = IdentitySettings(
        rules=tuple(_rule(rule) for rule in table.tables("rule")),
        audience=audience,
        svid_dir=table.file("svid_dir", base),
        workload_api=table.text("workload_api") if table.has("workload_api") else "",
        trust_bundles=_bundles(table, "bundles", base),
        jwt_bundles=_bundles(table, "jwt_bundles", base),
        issuers=_issuers(table, base, audience, our_issuer),
        denied=_denied(table),
    )
    table.finish()
    if (settings.svid_dir is None) == (not settings.workload_api):
        raise table.wrong("svid_dir", "say where our SVID comes from: this folder of files, or workload_api, a socket")
    if settings.workload_api and (settings.trust_bundles or settings.jwt_bundles):
        raise table.wrong("bundles", "the bundles come from the Workload API as well: leave them out")
    return settings


def _denied(table: Table) -> frozenset[str]:
    try:
        return frozenset(parse_denied(text) for text in table.texts("denied"))
    except ValueError as error:
        raise ConfigError(f"{table.path}.denied: {error}") from error


def _rule(table: Table) -> IdentityRule:
    match, tenant, names = table.text("match"), table.text("tenant"), table.texts("groups")
    resources = _resources(table)
    table.finish()
    if unknown := [name for name in names if name not in frozenset(Role)]:
        raise ConfigError(f"{table.path}.groups: {unknown[0]!r} is not one of {', '.join(Role)}")
    roles = frozenset(Role(name) for name in names)
    if len(tenant) > _LONGEST_TENANT or not tenant.isprintable():
        raise ConfigError(f"{table.path}.tenant: must be at most {_LONGEST_TENANT} printable characters")
    if tenant == ANY_TENANT and roles & _WITHOUT_TENANT:
        raise ConfigError(f"{table.path}.tenant: agents and orchestrators belong to one tenant; `*` is for the others")
    try:
        return IdentityRule(match=match, tenant=tenant, roles=roles, resources=resources)
    except ValueError as error:
        raise ConfigError(f"{table.path}.match: {error}") from error


def _resources(table: Table) -> frozenset[str]:
    uris = table.texts("resources")
    try:
        for uri in uris:
            check_resource(uri, "resources")
    except Refusal as refusal:
        raise table.wrong("resources", refusal.violations[0].description) from refusal
    return frozenset(uris)


def _bundles(table: Table, key: str, base: Path) -> dict[str, Path]:
    """Take the files of trust domains by their names."""
    paths = table.table(key).files(base)
    for name in paths:
        try:
            path = parse_spiffe_id(f"spiffe://{name}").path
        except ValueError as error:
            raise table.wrong(f"{key}.{name}", f"is not the name of a trust domain: {error}") from error
        if path:
            raise table.wrong(f"{key}.{name}", "is not the name of a trust domain: it goes without a path")
    return paths


def _issuers(table: Table, base: Path, audience: str, our_issuer: str) -> dict[str, tuple[Issuer, KeySource]]:
    issuers: dict[str, tuple[Issuer, KeySource]] = {}
    names: set[str] = set()
    for entry in table.tables("issuer"):
        issuer, source = _issuer(entry, audience), _key_source(entry, base)
        if issuer.url == our_issuer:
            raise entry.wrong("url", "is the broker's own: a credential of ours proves nobody's identity")
        if issuer.url in issuers or issuer.name in names:
            raise entry.wrong("name", "an issuer is named twice, by its name or its url")
        if not source.jwks_file and not source.jwks_url and not issuer.url.startswith("https://"):
            raise entry.wrong("url", "must be an https URL, or the keys must come from jwks_file or jwks_url")
        issuers[issuer.url] = (issuer, source)
        names.add(issuer.name)
        entry.finish()
    return issuers


def _issuer(table: Table, audience: str) -> Issuer:
    usual = Issuer(name="", url="", audience="")
    name = table.text("name")
    if not ISSUER_NAME.fullmatch(name):  # with a `:` in it, its subjects could be those of another issuer
        raise table.wrong("name", "must be 1 to 32 characters a-z, 0-9 and `-`, the first no `-`")
    try:
        subject = SubjectTemplate.parse(table.text("subject", "{sub}"))
    except ValueError as error:
        raise table.wrong("subject", str(error)) from error
    try:
        return Issuer(
            name=name,
            url=table.url("url", "https", "http"),
            audience=table.text("audience", audience),
            algorithms=frozenset(table.texts("algorithms")) or usual.algorithms,
            max_lifetime=table.duration("max_lifetime", timedelta(hours=1)),
            subject=subject,
            conditions=tuple(_condition(condition) for condition in table.tables("condition")),
            task_claim=_claim(table, "task_claim") if table.has("task_claim") else "",
            one_time=table.flag("one_time", default=False),
            access_tokens=table.flag("access_tokens", default=False),
        )
    except ValueError as error:
        raise table.wrong("algorithms", str(error)) from error


def _condition(table: Table) -> Condition:
    claim = _claim(table, "claim")
    given = [name for name in _CONDITIONS if table.has(name)]
    if len(given) != 1:
        typos = "".join(f"; `{key}` is none{meant(key, _CONDITIONS)}" for key in table.unknown())
        raise table.wrong("claim", f"say what it must be by one of {', '.join(_CONDITIONS)}{typos}")
    table.finish()
    if given == ["prefix"]:
        return Condition(claim, prefix=table.text("prefix"))
    return Condition(claim, table.scalars(given[0]))


def _claim(table: Table, key: str) -> str:
    claim = table.text(key)
    if claim.startswith("/") and not is_pointer(claim):
        raise table.wrong(key, "must be a claim's name, or a JSON Pointer such as /kubernetes.io/namespace")
    return claim


def _key_source(table: Table, base: Path) -> KeySource:
    source = KeySource(
        jwks_file=table.file("jwks_file", base),
        jwks_url=_jwks_url(table) if table.has("jwks_url") else "",
        ca_file=table.file("ca_file", base),
    )
    if source.jwks_file and (source.jwks_url or source.ca_file):
        raise table.wrong("jwks_file", "goes without jwks_url and ca_file: keys in a file are not fetched")
    return source


def _jwks_url(table: Table) -> str:
    """Take where keys are fetched from. It may have a query."""
    url = table.text("jwks_url")
    if not is_url(url.partition("?")[0], ("https",)):
        raise table.wrong("jwks_url", "must be an https URL")
    return url
