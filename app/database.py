"""The database: declarative base, engine, and one transaction per request.

PostgreSQL everywhere, tests included. Services flush and never commit; whoever opened the transaction
(request, job, command) commits it.
"""

import select
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeVar

import orjson
import psycopg
from fastapi import Depends, Request
from sqlalchemy import DateTime, Enum, MetaData, create_engine, event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from app.wire import Statement, ask
from trainer.contract.steps import Step, passing

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All tables; names of constraints follow one convention so that migrations can refer to them."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


def stored_by_value(kind: type[StrEnum]) -> Enum:
    """A column type that stores an enum's value as text with a check constraint: readable, and easy to extend."""
    return Enum(
        kind,
        name=kind.__name__.lower(),
        native_enum=False,
        length=32,
        create_constraint=True,
        values_callable=lambda members: [member.value for member in members],
    )


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """An engine for any spelling of a PostgreSQL address."""
    engine = create_engine(
        driver_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"prepare_threshold": None},
        hide_parameters=True,  # errors go to the log, and what people wrote does not
    )
    event.listen(engine, "connect", _plan_for_short_statements)
    event.listen(engine, "checkout", _refuse_if_hung_up)
    return engine


def _plan_for_short_statements(connection: psycopg.Connection[Any], _record: object) -> None:
    """Prepared statements are planned once, for any parameters: their limits must be written out. Help from other
    cores and compiling cost more than our statements take.
    """
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute("SET max_parallel_workers_per_gather = 0")
    connection.execute("SET jit = off")
    connection.commit()


def _refuse_if_hung_up(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
    """Have the pool replace a connection whose server is gone, without a question that costs a round trip.

    Nothing is to be read from an idle connection unless its server said goodbye or was killed.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError


def driver_url(url: str) -> str:
    """The address as SQLAlchemy wants it, whichever of `postgres://` and `postgresql://` people write."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"}:
        return f"postgresql+psycopg://{rest}"
    return url


def libpq_url(url: str) -> str:
    """The address as libpq (psycopg, procrastinate) wants it."""
    scheme, _, rest = url.partition("://")
    return f"postgresql://{rest}" if scheme.startswith("postgres") else url


SessionFactory = sessionmaker[Session]
ResultT = TypeVar("ResultT")


def make_session_factory(engine: Engine) -> SessionFactory:
    """Sessions whose objects stay readable after their transaction: pages render what services returned."""
    return sessionmaker(engine, expire_on_commit=False)


def run_sql(session: Session, statement: str, parameters: Mapping[str, Any]) -> list[Any]:
    """Run hand-written SQL (`%(name)s`) in the session's transaction, straight on its connection; rows are tuples
    with names. For the path from a verdict to the next comparison, where SQLAlchemy would take half of the time.

    The statement is prepared once per connection and planned once for all parameters: planning took PostgreSQL
    longer than running. What SQLAlchemy sends is planned anew each time, for the parameters at hand.
    """
    return run_together(session, (statement, parameters))[0]


def run_together(session: Session, *statements: Statement) -> list[list[Any]]:
    """Run statements one after the other, the next without waiting for the one before; the rows of each."""
    session.flush()
    connection = session.connection()
    driver = connection.connection.driver_connection
    assert driver is not None
    return ask(driver, connection.info.setdefault("prepared", {}), statements)


def find_row(session: Session, statement: str, parameters: Mapping[str, Any]) -> Any | None:
    """The first row of hand-written SQL, or None."""
    return next(iter(run_sql(session, statement, parameters)), None)


def get_row(session: Session, statement: str, parameters: Mapping[str, Any]) -> Any:
    """The row of hand-written SQL that always gives one."""
    row = find_row(session, statement, parameters)
    assert row is not None, "the statement gave no row"
    return row


def in_transaction(factory: SessionFactory, work: Callable[[Session], ResultT]) -> ResultT:
    """What `work` returns, in one transaction: returning commits it, raising rolls it back."""
    with factory() as session:
        result = work(session)
        session.commit()
    passing(Step.REQUEST_COMMITTED)
    return result


async def get_session(request: Request) -> AsyncIterator[Session]:
    """One transaction per request: returning commits it, raising rolls it back.

    Opening a session asks nothing of the database, so only its end takes a thread.
    """
    factory: SessionFactory = request.app.state.session_factory
    session = factory()
    try:
        yield session
    except BaseException:
        await run_in_threadpool(session.close)
        raise
    await run_in_threadpool(_commit, session)
    passing(Step.REQUEST_COMMITTED)


def _commit(session: Session) -> None:
    with session:
        session.commit()


# scope="function" commits before the answer is sent: a failed commit must not look like success.
DbSession = Annotated[Session, Depends(get_session, scope="function")]
