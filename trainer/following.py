"""What a rank that does not lead does: the same steps on its share of each batch, whenever the leader says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from trainer.errors import TrainerError
from trainer.ranks import Ranks, RanksLostError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Begin:
    """The reference is known and checkpoints lie ready: load all that training needs."""


@dataclass(frozen=True)
class Take:
    """Take a step of the whole training (from 1), rewards being measured from `anchor`."""

    step: int
    anchor: float


Order = Begin | Take
Stepping = Callable[[Take], None]
"""Takes a step."""


@contextmanager
def leading(ranks: Ranks) -> Iterator[None]:
    """The leader's whole run; the others are dismissed when it is over, however it ends."""
    try:
        yield
    finally:
        if ranks.count > 1:
            with suppress(RanksLostError):
                ranks.tell(None)


def follow(ranks: Ranks, prepare: Callable[[], Stepping]) -> None:
    """Heed the leader until it dismisses this rank. A fault here is told to the leader at the next step."""
    step: Stepping | None = None
    fault: str | None = None
    while (order := _told(ranks)) is not None:
        try:
            if isinstance(order, Take):
                assert step is not None, "the leader begins before it takes a step"
                step(order)
                continue
            try:
                step = prepare()
            except Exception as error:
                log.exception("This rank could not prepare")
                fault = f"Rank {ranks.rank} of {ranks.count} could not prepare: {error}"
            ranks.agree(fault)
        except TrainerError as error:
            log.warning("The leader has been told", extra={"fields": {"reason": str(error)}})


def _told(ranks: Ranks) -> Order | None:
    return ranks.tell()
