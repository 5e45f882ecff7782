"""The worker keeps its word about every job, also while the database is away."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.retry import RetryStrategy
from procrastinate.tasks import Task
from sqlalchemy import make_url

from app import worker
from app.background import DATABASE_AWAY
from app.database import libpq_url
from app.deployments.model_server import ModelServerDown
from app.worker import JOBS, Steadfast, make_worker_app
from tests.conftest import on_server


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task[..., Any, Any]]:
    """Every job; they can be put on a queue once per process."""
    app = make_worker_app("postgresql:///nowhere")
    return {name: task for name, task in app.tasks.items() if name.partition(":")[0] in JOBS}


def test_every_job_outlasts_a_database_that_is_restarted(tasks: dict[str, Task[..., Any, Any]]) -> None:
    assert len(tasks) > 12
    for task in tasks.values():
        job = Job(id=1, queue="default", lock=None, queueing_lock=None, task_name=task.name)
        for absence in DATABASE_AWAY:
            assert task.get_retry_exception(absence("", None, Exception()), job), task.name


def test_what_tells_the_model_server_outlasts_its_restart(tasks: dict[str, Task[..., Any, Any]]) -> None:
    for name in ("deployments:publish", "training:release_versions"):
        strategy = tasks[name].retry_strategy
        assert isinstance(strategy, RetryStrategy)
        assert ModelServerDown in set(strategy.retry_exceptions or ())


def queue(database_url: str) -> App:
    """A queue with one job that does nothing."""
    app = App(connector=PsycopgConnector(conninfo=libpq_url(database_url), min_size=1, max_size=2, timeout=0.3))
    app.job_manager = Steadfast(app.connector)
    app.task(name="nothing")(lambda: None)
    return app


async def fetched(app: App, *, queueing_lock: str | None = None) -> Job:
    """A job under way."""
    options = {"queueing_lock": queueing_lock} if queueing_lock else {}
    await app.configure_task("nothing", **options).defer_async()
    worker_id = await app.job_manager.register_worker()
    job = await app.job_manager.fetch_job(queues=None, worker_id=worker_id)
    assert job is not None
    return job


def states(database_url: str) -> list[str]:
    with psycopg.connect(libpq_url(database_url)) as connection:
        return [row[0] for row in connection.execute("SELECT status::text FROM procrastinate_jobs ORDER BY id")]


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        (lambda app, job: app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True), []),
        (lambda app, job: app.job_manager.retry_job(job), ["todo"]),
    ],
    ids=["ended", "to be tried again"],
)
def test_how_a_job_went_is_written_down_once_the_database_is_back(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch, ends: Callable[[App, Job], Any], left: list[str]
) -> None:
    monkeypatch.setattr(worker, "WRITE_AGAIN_SECONDS", 0.1)
    name = make_url(fresh_database).database

    async def outage() -> None:
        app = queue(fresh_database)
        async with app.open_async():
            job = await fetched(app)
            on_server(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            on_server(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            writing = asyncio.create_task(ends(app, job))
            await asyncio.sleep(1)
            assert not writing.done()
            on_server(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
            await asyncio.wait_for(writing, timeout=20)

    asyncio.run(outage())
    assert states(fresh_database) == left


def test_a_job_to_be_tried_again_gives_way_to_the_same_work_in_line(fresh_database: str) -> None:
    async def conflict() -> None:
        app = queue(fresh_database)
        async with app.open_async():
            job = await fetched(app, queueing_lock="fill-1")
            await app.configure_task("nothing", queueing_lock="fill-1").defer_async()
            await app.job_manager.retry_job(job)

    asyncio.run(conflict())
    assert states(fresh_database) == ["todo"]


def test_what_the_database_refuses_for_good_is_not_tried_for_ever(fresh_database: str) -> None:
    async def strange() -> None:
        app = queue(fresh_database)
        async with app.open_async():
            job = await fetched(app)
            await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
            with pytest.raises(ConnectorException):
                await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True)

    asyncio.run(strange())
