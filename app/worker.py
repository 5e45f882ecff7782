"""The worker: runs every domain's background jobs, and takes up those whose worker died.

A job whose worker has shown no heartbeat for `SILENCE_SECONDS` is run again; every job can be.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from procrastinate import App, Blueprint, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from app.background import Workplace
from app.clock import utc_now
from app.comparisons.jobs import blueprint as comparison_jobs
from app.database import libpq_url, make_engine, make_session_factory
from app.datasets.jobs import blueprint as dataset_jobs
from app.deployments.jobs import blueprint as deployment_jobs
from app.generation.jobs import blueprint as generation_jobs
from app.operation.jobs import blueprint as operation_jobs
from app.operation.living import keep_telling
from app.queue import REQUEST_ARGUMENT
from app.settings import Settings
from app.training.jobs import blueprint as training_jobs
from trainer.contract.logs import configure_logs, request_id

logger = logging.getLogger("palate.worker")

HEARTBEAT_SECONDS = 3.0
SILENCE_SECONDS = 12.0
"""Silence after which a worker counts as dead: four heartbeats missed."""
STOP_SECONDS = 6.0
"""How long running jobs may go on after a polite stop; then they are left to be run again."""
WRITE_AGAIN_SECONDS = 1.0
END_SECONDS = 7.0
"""How long after a polite stop the process ends at the latest, before `palate up` kills it."""

JOBS: dict[str, Blueprint] = {
    "comparisons": comparison_jobs,
    "datasets": dataset_jobs,
    "deployments": deployment_jobs,
    "generation": generation_jobs,
    "operation": operation_jobs,
    "training": training_jobs,
}

ROUTINE = {"comparisons:tend", "deployments:reconcile"}


class Steadfast(JobManager):
    """Writes down how a job went however long the database is away.

    What is not written stays under way, and holds its lock, for as long as its worker lives.
    """

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """As procrastinate does it."""
        finish = super().finish_job
        await _until_written(lambda: finish(job, status, delete_job))

    async def retry_job(self, job: Job, *arguments: Any, **options: Any) -> None:
        """As procrastinate does it; where the same work is in line already, this job is not needed."""
        retry = super().retry_job
        try:
            await _until_written(lambda: retry(job, *arguments, **options))
        except UniqueViolation:
            await self.finish_job(job, Status.FAILED, delete_job=True)


async def _until_written(write: Callable[[], Awaitable[None]]) -> None:
    tried = False
    while True:
        try:
            return await write()
        except ConnectorException as error:
            if tried and isinstance(error.__cause__, psycopg.errors.RaiseException):
                return None  # written the last time, but for the answer
            if not isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
                raise
            logger.warning("How a job went is not written down yet: %s", error.__cause__)
            tried = True
            await asyncio.sleep(WRITE_AGAIN_SECONDS)


def make_worker_app(database_url: str) -> App:
    """The queue with all jobs on it."""
    app = App(connector=PsycopgConnector(conninfo=libpq_url(database_url), min_size=1, max_size=6))
    app.job_manager = Steadfast(app.connector)
    for namespace, blueprint in JOBS.items():
        app.add_tasks_from(blueprint, namespace=namespace)
    return app


def run_worker(settings: Settings, *, concurrency: int) -> None:
    """Work until told to stop. Ends the process: a job's thread that does not listen is not waited for."""
    assert settings.database_url is not None
    configure_logs("worker", environment=settings.log_environment)
    engine = make_engine(settings.database_url, pool_size=concurrency)
    place = Workplace(settings=settings, session_factory=make_session_factory(engine), clock=utc_now)
    keep_telling(settings.database_url, kind="worker")
    asyncio.run(_work(make_worker_app(settings.database_url), place, concurrency=concurrency))
    _end_process()


async def _work(app: App, place: Workplace, *, concurrency: int) -> None:
    async with app.open_async():
        rescuer = asyncio.create_task(rescue_for_ever(app))
        work = asyncio.create_task(
            app.run_worker_async(
                name="palate",
                concurrency=concurrency,
                fetch_job_polling_interval=2.0,
                shutdown_graceful_timeout=STOP_SECONDS,
                delete_jobs="successful",
                update_heartbeat_interval=HEARTBEAT_SECONDS,
                stalled_worker_timeout=SILENCE_SECONDS,
                additional_context={"workplace": place},
                worker_middleware=[log_job],
                install_signal_handlers=False,
            )
        )
        _stop_on_signal(place, work)
        try:
            await work
        except asyncio.CancelledError:
            if not place.stopping.is_set():
                raise
        finally:
            rescuer.cancel()


async def log_job(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
    """Run a job under the id of the request that caused it, and log how it went.

    The queue itself logs the error of a job that failed, after this, and in the same context.
    """
    job = context.job
    caused_by = job.task_kwargs.pop(REQUEST_ARGUMENT, None)
    request_id.set(None if caused_by is None else str(caused_by))
    begun, ended = time.perf_counter(), "failed"
    try:
        result = await call_next()
        ended = "done"
        return result
    finally:
        fields = {"task": job.task_name, "job_id": job.id, "attempt": job.attempts + 1, "ended": ended}
        milliseconds = round(1000 * (time.perf_counter() - begun), 1)
        level = logging.DEBUG if is_routine(job.task_name, ended) else logging.INFO
        logger.log(level, "job", extra={"fields": {**fields, "ms": milliseconds}})


def is_routine(task: str, ended: str) -> bool:
    """Whether a job runs every minute and went well: its line is for debugging."""
    return task in ROUTINE and ended == "done"


def _stop_on_signal(place: Workplace, work: asyncio.Task[None]) -> None:
    """On SIGTERM or Ctrl-C fetch no further job and tell the running ones; procrastinate alone would not tell them."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not place.stopping.is_set():
            place.stopping.set()
            work.cancel()
            loop.call_later(END_SECONDS, _end_process)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _end_process() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


async def rescue_for_ever(app: App) -> None:
    """Every few seconds put back in line the jobs of workers that fell silent."""
    while True:
        try:
            await rescue_stalled_jobs(app)
        except Exception:
            logger.exception("Looking for stalled jobs failed; trying again")
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def rescue_stalled_jobs(app: App) -> int:
    """Put stalled jobs back in line; returns how many."""
    stalled = list(await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=SILENCE_SECONDS))
    for job in stalled:
        logger.warning("Job %s (%s) lost its worker; running it again", job.id, job.task_name)
        await app.job_manager.retry_job(job)
    return len(stalled)
