"""Writing many rows at once: ids drawn ahead, rows sent by COPY over the session's own connection."""

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.orm import Session


def draw_ids(session: Session, table: str, count: int) -> list[int]:
    """So many fresh ids of a table, ascending; ids that end up unused are gaps, no harm."""
    query = text("SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)")
    return sorted(session.scalars(query, {"table": table, "count": count}))


def copy_rows(session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Append rows to a table, within the session's transaction; JSON values are handed over as text."""
    connection = session.connection().connection.driver_connection
    assert connection is not None
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
