"""Statements straight over libpq: each with its own look at the database, errors as psycopg's, threads left alone."""

import threading
import time
import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.database import find_row, make_engine, make_session_factory, run_sql, run_together


@pytest.fixture
def own_sessions(fresh_database: str) -> sessionmaker[Session]:
    """Sessions with connections and commits of their own."""
    return make_session_factory(make_engine(fresh_database))


def test_values_go_there_and_back(session: Session) -> None:
    given = {
        "a": 7,
        "b": "é%s",
        "c": uuid.UUID(int=5),
        "d": datetime(2026, 1, 2, tzinfo=UTC),
        "e": [1, 2**40],
        "n": None,
    }
    row = find_row(
        session,
        "SELECT CAST(%(a)s AS bigint) AS a, CAST(%(b)s AS text) AS b, CAST(%(c)s AS uuid) AS c, 7 %% 4 AS rest, "
        "CAST(%(d)s AS timestamptz) AS d, CAST(%(e)s AS bigint[]) AS e, CAST(%(n)s AS text) AS n, %(a)s + 1 AS again",
        given,
    )
    assert row is not None
    assert {name: getattr(row, name) for name in given} == given
    assert (row.rest, row.again) == (3, 8)


def test_one_statement_serves_values_of_other_types(session: Session) -> None:
    statement = "SELECT CAST(%(value)s AS text) AS said"
    assert [run_sql(session, statement, {"value": value})[0].said for value in (1, 2**40, "x", None, 1)] == [
        "1", str(2**40), "x", None, "1",
    ]  # fmt: skip


def test_each_statement_sees_what_the_one_before_did_and_all_share_a_transaction(
    own_sessions: sessionmaker[Session],
) -> None:
    with own_sessions() as session:
        session.execute(text("CREATE TABLE things (n integer)"))
        session.commit()
        added, found = run_together(
            session, ("INSERT INTO things VALUES (%(n)s)", {"n": 3}), ("SELECT n FROM things", {})
        )
        assert (added, [row.n for row in found]) == ([], [3])
        session.rollback()
        assert run_sql(session, "SELECT n FROM things", {}) == []


def test_an_error_is_psycopgs_and_what_follows_is_not_carried_out(own_sessions: sessionmaker[Session]) -> None:
    with own_sessions() as session:
        session.execute(text("CREATE TABLE things (n integer UNIQUE)"))
        session.commit()
        add = "INSERT INTO things VALUES (%(n)s)"
        with pytest.raises(psycopg.errors.UniqueViolation):
            run_together(session, (add, {"n": 1}), (add, {"n": 1}), (add, {"n": 2}))
        session.rollback()
        assert run_sql(session, "SELECT n FROM things", {}) == []
        with pytest.raises(psycopg.errors.UndefinedTable):
            run_sql(session, "SELECT FROM nowhere", {})
        session.rollback()
        with pytest.raises(psycopg.DataError):
            run_sql(session, "SELECT CAST(%(said)s AS text)", {"said": "a\x00b"})
        assert run_sql(session, "SELECT 1 AS one", {})[0].one == 1


def test_a_lost_connection_is_said_and_replaced(own_sessions: sessionmaker[Session]) -> None:
    def lose() -> None:
        with own_sessions() as session, own_sessions() as other:
            number = run_sql(session, "SELECT pg_backend_pid() AS number", {})[0].number
            other.execute(text("SELECT pg_terminate_backend(:number, 5000)"), {"number": number})
            with pytest.raises(psycopg.OperationalError):
                run_sql(session, "SELECT 1", {})

    with pytest.raises(OperationalError):
        lose()
    with own_sessions() as session:
        assert run_sql(session, "SELECT 1 AS one", {})[0].one == 1


def test_more_is_sent_than_a_socket_holds(session: Session) -> None:
    long = "x" * 20_000_000
    answers = run_together(session, *[("SELECT CAST(%(long)s AS text) AS long", {"long": long})] * 2)
    assert [rows[0].long for rows in answers] == [long, long]


def test_waiting_for_a_lock_keeps_no_other_thread_from_its_work(own_sessions: sessionmaker[Session]) -> None:
    hold = ("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": 42})
    with own_sessions() as holder:
        run_together(holder, hold)

        def wait() -> None:
            with own_sessions() as waiter:
                run_together(waiter, hold)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        holder.rollback()
    waiting.join(5)
    assert not waiting.is_alive()
