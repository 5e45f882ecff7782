"""Several processes that train one model together, as torchrun starts them (RANK, WORLD_SIZE).

The first rank **leads**: it carries out the run as if it were alone, and before each step tells the others which one
it is. The others **follow**: they hold the same model and optimizer, compute the gradient of their share of a batch,
and take the same step. So whatever a run decides, writes or waits for is decided, written and waited for once.

Gradients are added up by hand, once per step and in flat buckets, rather than by `DistributedDataParallel`: a step has
several backwards, the number of which differs by rank, and its loss is a sum over the whole batch, not a mean of means.
A model of which each rank holds a share alone adds them up by itself (`sharding`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.errors import TrainerError
from trainer.packing import Tree

LONGEST_WAIT = timedelta(days=30)
"""Followers wait for the next step while the leader measures, or while a run is paused."""
BUCKET_NUMBERS = 16_000_000
PR_SET_PDEATHSIG = 1
T = TypeVar("T")


class RanksLostError(Exception):
    """A process of the group is gone; the run can be taken up again."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone unless torchrun says otherwise."""

    rank: int = 0
    count: int = 1
    sharded: bool = False
    """Whether each holds a share of the models alone (`sharding`)."""

    @property
    def leads(self) -> bool:
        """Whether it carries out the run, rather than follow."""
        return self.rank == 0

    def share(self, trees: Sequence[Tree]) -> list[int]:
        """Which trees of a batch are this process's, by number, in order: balanced by tokens, none divided."""
        loads = [0] * self.count
        own: list[int] = []
        for number in sorted(range(len(trees)), key=lambda number: (-trees[number].tokens, number)):
            rank = min(range(self.count), key=lambda each: (loads[each], each))
            loads[rank] += trees[number].tokens
            if rank == self.rank:
                own.append(number)
        return sorted(own)

    def add_up(self, parameters: Sequence[torch.nn.Parameter], figures: Mapping[str, float]) -> dict[str, float]:
        """Add gradients and figures of all ranks up, in place and as a new mapping. A rank may have none of either."""
        if self.count == 1:
            return dict(figures)
        names = sorted(set().union(*self._gathered(sorted(figures))))
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = _summed(torch.cat([gradient.reshape(-1) for gradient in bucket]))
            begin = 0
            for gradient in bucket:
                gradient.copy_(flat[begin : begin + gradient.numel()].view_as(gradient))
                begin += gradient.numel()
        sums = _summed(torch.tensor([figures.get(name, 0.0) for name in names], dtype=torch.float64))
        return dict(zip(names, sums.tolist(), strict=True))

    def agree(self, fault: str | None) -> None:
        """Raise TrainerError on every rank where any of them had a fault, with its message."""
        if self.count > 1:
            fault = next((each for each in self._gathered(fault) if each is not None), None)
        if fault is not None:
            raise TrainerError(fault)

    def tell(self, said: T | None = None) -> T:
        """What the leader says, on every rank; `said` is given by the leader alone."""
        box: list[Any] = [said]
        if self.count > 1:
            _surviving(lambda: dist.broadcast_object_list(box, src=0))
        return box[0]  # type: ignore[no-any-return]

    def most(self, number: int) -> int:
        """The largest of the numbers that the ranks name."""
        return max(self._gathered(number)) if self.count > 1 else number

    def _gathered(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.count
        _surviving(lambda: dist.all_gather_object(found, value))
        return found


ALONE = Ranks()


@contextmanager
def joined(*, sharded: bool = False) -> Iterator[Ranks]:
    """The group that torchrun announces; alone where it announces none. `sharded` is for groups."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=LONGEST_WAIT)
    else:
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), sharded)
    if ranks.leads and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # with torchrun gone it leaves; the others then may
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _summed(values: Tensor) -> Tensor:
    _surviving(lambda: dist.all_reduce(values))
    return values


def _surviving(collective: Callable[[], object]) -> None:
    """Carry out a collective; raises RanksLostError where a peer is gone."""
    try:
        collective()
    except RuntimeError as error:
        raise RanksLostError(_lost(error)) from error


@contextmanager
def noticing_lost_ranks() -> Iterator[None]:
    """For work within which a model's own collectives run: raises RanksLostError where they fail as a peer is gone."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise RanksLostError(_lost(error)) from error
        raise


def _lost(error: RuntimeError) -> str:
    return f"A process of the group is gone ({str(error).splitlines()[0]})."


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one type together, in buckets of bounded size."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        if bucket and (
            gradient.dtype != bucket[0].dtype or sum(map(Tensor.numel, [*bucket, gradient])) > BUCKET_NUMBERS
        ):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
