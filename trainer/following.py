"""What the leader tells the other ranks, and how they listen. What they then do is in `follower`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from trainer.errors import TrainerError
from trainer.ranks import Ranks, RanksLostError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """Load the models, and what to train on."""


@dataclass(frozen=True)
class Ask:
    """Ask the reference for what the drift term compares with."""


@dataclass(frozen=True)
class Begin:
    """The reference is known and checkpoints lie ready: take them up."""


@dataclass(frozen=True)
class Agree:
    """Say whether all that was prepared so far could be."""


@dataclass(frozen=True)
class Divide:
    """Keep a share of the models alone, from here on."""


@dataclass(frozen=True)
class Take:
    """Take a step of the whole training (from 1), rewards being measured from `anchor`."""

    step: int
    anchor: float


@dataclass(frozen=True)
class Lend:
    """The leader is about to do a forward of a sharded model: take part."""

    model: Literal["policy", "reference"]


@dataclass(frozen=True)
class Gather:
    """Put the weights of the sharded policy together, for the leader to write them."""

    with_moments: bool


@dataclass(frozen=True)
class Restore:
    """Put back the weights of the best step."""

    step: int


@dataclass(frozen=True)
class Settle:
    """Training is over: turn the policy into what will be served."""


Order = Load | Ask | Begin | Agree | Divide | Take | Lend | Gather | Restore | Settle


@contextmanager
def leading(ranks: Ranks) -> Iterator[None]:
    """The leader's whole run; the others are dismissed when it is over, however it ends."""
    try:
        yield
    finally:
        if ranks.count > 1:
            with suppress(RanksLostError):
                ranks.tell(None)


def tell(ranks: Ranks, order: Order) -> None:
    """Have the others carry out an order. Raises TrainerError where they are to agree and one of them does not."""
    if ranks.count > 1:
        ranks.tell(order)
        if isinstance(order, Agree):
            ranks.agree(None)


def follow(ranks: Ranks, heed: Callable[[Order], None]) -> None:
    """Heed the leader until it dismisses this rank.

    What went wrong while it prepared is told when the leader asks, what goes wrong in a step within it. Of sharded
    models, whose ranks wait for each other everywhere, any fault but the first kind ends the group.
    """
    fault: str | None = None
    while (order := _told(ranks)) is not None:
        try:
            if isinstance(order, Agree):
                ranks.agree(fault)
            elif isinstance(order, Load | Begin) or (isinstance(order, Ask) and not ranks.sharded):
                fault = fault or _fault_of(ranks, heed, order)
            else:
                heed(order)
        except TrainerError as error:
            log.warning("The leader has been told", extra={"fields": {"reason": str(error)}})


def _told(ranks: Ranks) -> Order | None:
    return ranks.tell()


def _fault_of(ranks: Ranks, heed: Callable[[Order], None], order: Order) -> str | None:
    try:
        heed(order)
    except Exception as error:
        log.exception("This rank could not prepare")
        return f"Rank {ranks.rank} of {ranks.count} could not prepare: {error}"
    return None
