"""The daemon's housekeeping. Any job may run on any replica, twice, late or not at all: nothing becomes true by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from broker.keystore.folder import KeyFileError
from broker.lease.desk import Desk
from broker.lease.expire import record_expiry
from broker.lease.retention import forget_old
from broker.model.errors import Refusal

_SOONEST = timedelta(seconds=1)  # leases that fall due together are recorded together
_LATEST = timedelta(seconds=30)  # a lease may have been issued since, or by another replica
_RETENTION = timedelta(hours=1)
_ROTATION = timedelta(seconds=5)  # how late a key is withdrawn
_EXPIRE = "expire"


class Schedule:
    """Wakes the jobs. Expiry is woken for the instant when the next lease is due."""

    def __init__(self, desk: Desk, rotate_keys: Callable[[], Awaitable[None]]) -> None:
        """Make a schedule; `run` brings it to life."""
        self._desk = desk
        self._rotate_keys = rotate_keys
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )
        self._log = structlog.get_logger("jobs")

    async def run(self) -> None:
        """Run the jobs, until cancelled.

        Raises:
            Exception: what a job has failed with, for another reason than a database or a file that cannot be used.
        """
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def fail(event: JobExecutionEvent) -> None:
            if not failed.done():
                failed.set_exception(event.exception)

        self._scheduler.add_listener(fail, EVENT_JOB_ERROR)
        self._expire_at(self._desk.clock())
        self._scheduler.add_job(self._retain, IntervalTrigger(seconds=int(_RETENTION.total_seconds())), id="retain")
        self._scheduler.add_job(self._rotate, IntervalTrigger(seconds=int(_ROTATION.total_seconds())), id="rotate")
        self._scheduler.start()
        try:
            await failed
        finally:
            self._scheduler.shutdown(wait=False)

    def _expire_at(self, instant: datetime) -> None:
        self._scheduler.add_job(self._expire, DateTrigger(instant), id=_EXPIRE, replace_existing=True)

    async def _expire(self) -> None:
        due = None
        try:
            due = await record_expiry(self._desk)
        except Refusal as refusal:
            self._log.warning("jobs.expire_failed", reason=refusal.reason.value)
        now = self._desk.clock()
        latest = now + _LATEST
        self._expire_at(latest if due is None else min(max(due, now + _SOONEST), latest))

    async def _retain(self) -> None:
        try:
            forgotten = await forget_old(self._desk)
        except Refusal as refusal:
            self._log.warning("jobs.retain_failed", reason=refusal.reason.value)
        else:
            self._log.info("jobs.retained", leases_forgotten=forgotten)

    async def _rotate(self) -> None:
        try:
            await self._rotate_keys()
        except (OSError, KeyFileError, Refusal) as error:
            self._log.error("jobs.rotate_failed", error=str(error))
