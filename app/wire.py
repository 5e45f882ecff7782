"""Statements straight over libpq, several in one journey to PostgreSQL and back.

For the path from a verdict to the next comparison: psycopg's cursors would take a quarter of its time there, and each
journey wakes two processes. Each statement is prepared once per connection, and has its own look at the database, just
as if they were sent one by one; what one changes, the next sees.
"""

import re
import select
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import abc, adapt
from psycopg.adapt import PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

Statement = tuple[str, Mapping[str, Any]]
"""SQL with `%(name)s` where a value goes, and the values."""

_VALUE = re.compile(r"%\((\w+)\)s|%%")
_BEGIN: Statement = ("BEGIN", {})


@dataclass
class Prepared:
    """A statement that a connection knows by name. `make_row` is known once it has given rows."""

    name: bytes
    make_row: Callable[[Iterable[Any]], Any] | None = None


Known = dict[tuple[str, tuple[int, ...]], Prepared]
"""What a connection has prepared, by statement and types of its values; belongs to the connection."""


def ask(connection: psycopg.Connection[Any], known: Known, statements: Sequence[Statement]) -> list[list[Any]]:
    """The rows that each statement gives, as tuples with names, in one journey; in a transaction, begun if need be.

    Raises the first error that PostgreSQL or psycopg has; none of the statements after that one is carried out.
    """
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.IDLE:
        return ask_begun(connection, known, [_BEGIN, *statements])[1:]
    return ask_begun(connection, known, statements)


def ask_begun(connection: psycopg.Connection[Any], known: Known, statements: Sequence[Statement]) -> list[list[Any]]:
    """The same without beginning a transaction."""
    pgconn = connection.pgconn
    transformer: abc.Transformer = adapt.Transformer(connection)
    encoded = [_encode(pgconn, transformer, known, *statement) for statement in statements]
    pgconn.enter_pipeline_mode()
    for prepared, values, formats in encoded:
        pgconn.send_query_prepared(prepared.name, values, formats)
    pgconn.pipeline_sync()
    results = _results(pgconn, len(encoded))
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status not in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            raise error_from_result(result, encoding=connection.info.encoding)
    return [_rows(transformer, result, prepared) for result, (prepared, _, _) in zip(results, encoded, strict=True)]


def _encode(
    pgconn: PGconn, transformer: abc.Transformer, known: Known, sql: str, given: Mapping[str, Any]
) -> tuple[Prepared, Sequence[Any], Sequence[Any]]:
    """A statement as the connection knows it, with its values as they go over the wire."""
    numbered, names = _numbered(sql)
    values = transformer.dump_sequence([given[name] for name in names], [PyFormat.AUTO] * len(names))
    types = transformer.types or ()
    prepared = known.get((sql, types))
    if prepared is None:
        prepared = Prepared(b"palate_%d" % len(known))
        result = pgconn.prepare(prepared.name, numbered, types)
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result)
        known[sql, types] = prepared
    return prepared, values, transformer.formats or ()


@lru_cache(maxsize=256)
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with `$1` for the first name, and so on, and the names in that order."""
    names: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return "%" if found[1] is None else f"${names.setdefault(found[1], len(names) + 1)}"

    return _VALUE.sub(number, sql).encode(), tuple(names)


def _results(pgconn: PGconn, count: int) -> list[PGresult]:
    """What came back for each of so many statements. Waiting leaves the interpreter to other threads."""
    readable = select.poll()
    readable.register(pgconn.socket, select.POLLIN)
    writable = select.poll()
    writable.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    while pgconn.flush():
        writable.poll()
        pgconn.consume_input()

    def next_result() -> PGresult | None:
        while pgconn.is_busy():
            readable.poll()
            pgconn.consume_input()
        return pgconn.get_result()

    results: list[PGresult] = []
    while len(results) < count:
        result = next_result()
        if result is None or pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the connection was lost while statements were under way")
        results.append(result)
        next_result()  # nothing, which ends a statement
    next_result()  # the end of all
    return results


def _rows(transformer: abc.Transformer, result: PGresult, prepared: Prepared) -> list[Any]:
    if not result.ntuples:
        return []
    if prepared.make_row is None:
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
        prepared.make_row = row._make
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, prepared.make_row)
