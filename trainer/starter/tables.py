"""Reads the small tables that the corpus is made from (`data/*.txt`)."""

from __future__ import annotations

from functools import cache

from trainer.starter import DATA_FOLDER


@cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of `data/<name>.txt`: cells between bars; lines that begin with # are left out."""
    lines = (DATA_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(
        tuple(cell.strip() for cell in line.split("|")) for line in lines if line.strip() and not line.startswith("#")
    )


@cache
def phrases(name: str) -> tuple[str, ...]:
    """All of `data/<name>.txt` as one list, separated by commas."""
    return tuple(phrase for row in table(name) for phrase in split(row[0], ","))


@cache
def words(name: str) -> tuple[str, ...]:
    """All words of `data/<name>.txt`."""
    return tuple(word for row in table(name) for word in row[0].split())


def split(cell: str, separator: str) -> tuple[str, ...]:
    """The parts of a cell, without the blanks around them."""
    return tuple(part.strip() for part in cell.split(separator))
