"""What `credbroker doctor` looks at: of a broker, what its configuration names; of a client, the way to its broker.

Nothing is changed, and nothing is held: a broker may run, or start, meanwhile. This imports everything that a broker
does, so the command imports it when it runs.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from broker.audit.note import NoteSigner
from broker.cli.database import naming_database
from broker.cli.findings import Finding, look
from broker.config import policy_bundle
from broker.config.listening import check_free, doors_of
from broker.config.settings import Settings
from broker.identity.issuers import Issuer
from broker.identity.trust_bundles import parse_certificates
from broker.keystore.folder import open_keys
from broker.model.clock import Clock
from broker.model.errors import ListenProblem, Refusal
from broker.store import effects, migrate, opening
from broker.store.database import DatabaseProblem, open_database
from broker.store.marks import Marks
from broker.store.sole import check_place, writer_of
from broker.trust.files import SvidFileSource
from broker.trust.issuer_keys import IssuerKeys, KeySource, KeySourceError
from broker.trust.kept import SvidFileError
from broker.trust.workload_api import WorkloadApi

_LEAST_TRIED = 2  # one failure may be a moment's
_MOST_EFFECTS = 20


def examine_broker(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Look at everything that a broker needs to start and to serve."""
    yield look("identity", lambda: _identity(settings, clock))
    yield look("keys", lambda: _keys(settings))
    yield look("policy", lambda: f"revision {policy_bundle.load(settings.policy_bundle).revision}")
    database = look("database", lambda: _database(settings.database_url))
    yield database
    if not database.problem:
        yield look("ledger", lambda: _ledger(settings))
        yield from _effects(settings.database_url)
    if settings.copy_checkpoints_to is not None:
        yield look("ledger.copy_checkpoints_to", lambda: _folder(settings.copy_checkpoints_to))
    for key, address in doors_of(settings.listen):
        yield look(key, lambda key=key, address=address: _door(settings, key, address))  # type: ignore[misc]
    for issuer, source in settings.identity.issuers.values():
        name = f"issuer {issuer.name}"
        yield look(name, lambda issuer=issuer, source=source: asyncio.run(_issuer(issuer, source)))  # type: ignore[misc]


def _identity(settings: Settings, clock: Clock) -> str:
    identity = settings.identity
    if identity.svid_dir is None:
        api = WorkloadApi(identity.workload_api, clock)
        api.close()
        return _described(api.material.cert_chain_pem, f"the SVID from {identity.workload_api}")
    files = SvidFileSource(identity.svid_dir, identity.trust_bundles, identity.jwt_bundles)
    files.check_time(clock())
    path = identity.svid_dir / "svid.pem"
    chain = parse_certificates(files.material.cert_chain_pem)
    roots = parse_certificates((identity.svid_dir / "bundle.pem").read_bytes())
    if not any(_issued(chain[-1], root) for root in roots):
        raise SvidFileError(
            f"{path}: is not of the roots in {identity.svid_dir / 'bundle.pem'}; write both from the same trust domain"
        )
    return _described(files.material.cert_chain_pem, str(path))


def _described(chain_pem: bytes, where: str) -> str:
    """Say who we are, and until when; clients look at the names."""
    leaf = parse_certificates(chain_pem)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if not hosts:
        raise SvidFileError(
            f"{where}: has no DNS name, so no client would take it; let the entry have one (SPIRE: -dns)"
        )
    (spiffe_id,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    return f"{spiffe_id} for {', '.join(hosts)}, good until {_utc(leaf.not_valid_after_utc)}"


def _issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _keys(settings: Settings) -> str:
    keys = open_keys(settings.keys.directory)
    return f"token keys: {len(keys.keyring.lives)}; the ledger's: {NoteSigner(settings.origin, keys.checkpoint).vkey}"


def _database(url: str) -> str:
    """Look at the schema; a SQLite file that is not there is left so."""
    path = check_place(url)
    if path is not None and not path.exists():
        return f"{path}: is made at the first start"
    with naming_database(url):
        revision, newest = migrate.current(url), migrate.newest()
    if revision not in (None, newest):
        raise DatabaseProblem(
            f"its schema is at {revision}, and this version needs {newest}; run `credbroker db upgrade`"
        )
    writer = writer_of(url)
    return f"schema {revision or 'empty'}" + (f", written by process {writer}" if writer else "")


def _ledger(settings: Settings) -> str:
    """Hold the ledger's head against our name and key, as a start does."""
    path = check_place(settings.database_url)
    if path is not None and not path.exists():
        return f"{settings.origin}: begins at the first start"
    signer = NoteSigner(settings.origin, open_keys(settings.keys.directory).checkpoint)
    database = open_database(settings.database_url)
    try:
        with naming_database(settings.database_url), database.snapshot() as connection:
            if migrate.current(settings.database_url) is None:
                return f"{settings.origin}: begins at the first start"
            head = opening.check(connection, settings.origin, signer.vkey, Marks(settings.mark_dirs, signer.vkey))
            if head is None:
                return f"{settings.origin}: begins at the first start"
            return f"{head.origin}: {head.frontier.size} entries; `credbroker ledger verify` looks at each"
    finally:
        database.close()


def _effects(url: str) -> Iterator[Finding]:
    """Name the effects outside the database that fail, or were given up."""
    path = check_place(url)
    if (path is not None and not path.exists()) or migrate.current(url) is None:
        return
    database = open_database(url)
    try:
        with naming_database(url), database.snapshot() as connection:
            for trouble in effects.troubles(connection, _LEAST_TRIED, _MOST_EFFECTS):
                state = "was given up" if trouble.given_up else "has failed"
                problem = f"{state} after {trouble.tried} tries: {trouble.problem}"
                yield Finding(subject=f"effect {trouble.id}", problem=problem, next="mend the place that it is for")
    finally:
        database.close()


def _folder(folder: Path | None) -> str:
    """Look whether there is a folder that a broker would write to."""
    if folder is None or not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(folder))
    return f"{folder}: is there"


def _door(settings: Settings, key: str, address: str) -> str:
    """A port that is taken is well if the broker runs."""
    try:
        check_free(key, address)
    except ListenProblem:
        writer = writer_of(settings.database_url)
        if writer is None:
            raise
        return f"{address}: taken, and a broker runs (process {writer})"
    return f"{address}: free"


async def _issuer(issuer: Issuer, source: KeySource) -> str:
    keys = IssuerKeys(issuer, source, time.monotonic)
    try:
        await keys.refresh()
        return f"{issuer.url}: {len(keys.current().keys.keys)} keys"
    except Refusal as refusal:
        raise KeySourceError(
            f"{keys.problem or refusal.message}; check its url, jwks_url, ca_file and the network"
        ) from refusal
    finally:
        await keys.close()


def _utc(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
