"""Running the daemon in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc

from broker import logs
from broker.cli.database import naming_database
from broker.cli.failure import stopping_on
from broker.config.listening import ListenProblem
from broker.config.settings import Settings
from broker.daemon import Ready, serve
from broker.jobs.crew import PartEnded
from broker.keystore.folder import KeyFileError
from broker.policy.problems import BundleError
from broker.store.database import DatabaseProblem
from broker.store.ledger import LedgerMismatch
from broker.trust.kept import SvidFileError
from broker.trust.key_sets import KeySourceError
from broker.trust.workload_api import WorkloadApiError


def run(settings: Settings, ready: Callable[[Ready], None], also: Sequence[grpc.GenericRpcHandler] = ()) -> None:
    """Serve until SIGTERM or SIGINT; logs go to stderr. `ready` is told when it serves; `also` is served beside it.

    Raises:
        Stop: the broker cannot start, or cannot go on; the message says why.
        Refusal: the database cannot be reached.
    """
    logs.configure()
    # RuntimeError is gRPC's word for an address that was free a moment ago.
    problems = (
        ListenProblem,
        SvidFileError,
        WorkloadApiError,
        KeyFileError,
        KeySourceError,
        BundleError,
        LedgerMismatch,
        DatabaseProblem,
        PartEnded,
        RuntimeError,
    )
    with stopping_on(*problems), naming_database(settings.database_url):
        asyncio.run(serve(settings, ready, also=also))
