"""Where trees lie in a pack, and from there which of its tokens attend to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trunk:
    """Where a tree lies in its pack: its prompt, all its branches, and each branch that has tokens to read."""

    prompt: slice
    branches: slice
    each: tuple[slice, ...]


@dataclass(frozen=True)
class Segments:
    """Queries that attend to keys, segment by segment: segment i has the queries from `queries[i]` to `queries[i + 1]`
    and the keys from `keys[i]` to `keys[i + 1]`, both int32 on the device."""

    queries: Tensor
    keys: Tensor
    most_queries: int
    most_keys: int
    causal: bool
    """Whether a query attends to the keys up to its own place alone."""


@dataclass(frozen=True)
class Taken:
    """Some tokens of a pack, by number in ascending order. `places` says of every token which of them it is, or that
    it is none, by their count: so that values are put back by reading, in which nothing can meet."""

    numbers: Tensor
    places: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Their rows among those of all tokens."""
        return values.index_select(0, self.numbers)

    def put_back(self, rows: Tensor, *, otherwise: float = 0.0) -> Tensor:
        """Rows of all tokens, from theirs; of those that are not taken, this number."""
        return torch.cat([rows, rows.new_full((1, *rows.shape[1:]), otherwise)]).index_select(0, self.places)


@dataclass(frozen=True)
class Layout:
    """The two parts of a pack's attention, and which tokens the second one takes."""

    own: Segments
    to_prompts: Segments
    branches: Taken
    prompts: Taken


def layout_of(trunks: Sequence[Trunk], device: torch.device) -> Layout:
    """The layout of a pack, the same for every layer."""
    own = [segment for trunk in trunks for segment in (trunk.prompt, *trunk.each)]
    continued = [trunk for trunk in trunks if trunk.each]
    branches, prompts = [trunk.branches for trunk in continued], [trunk.prompt for trunk in continued]
    return Layout(
        own=_segments(own, own, device, causal=True),
        to_prompts=_segments(branches, prompts, device, causal=False),
        branches=_taken(branches, own[-1].stop, device),
        prompts=_taken(prompts, own[-1].stop, device),
    )


def _segments(queries: Sequence[slice], keys: Sequence[slice], device: torch.device, *, causal: bool) -> Segments:
    of_queries, of_keys = _lengths(queries), _lengths(keys)
    return Segments(
        queries=_bounds(of_queries, device),
        keys=_bounds(of_keys, device),
        most_queries=max(of_queries, default=0),
        most_keys=max(of_keys, default=0),
        causal=causal,
    )


def _lengths(slices: Sequence[slice]) -> list[int]:
    return [each.stop - each.start for each in slices]


def _bounds(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([*accumulate(lengths, initial=0)], dtype=torch.int32, device=device)


def _taken(slices: Sequence[slice], count: int, device: torch.device) -> Taken:
    numbers = torch.tensor([number for each in slices for number in range(each.start, each.stop)], dtype=torch.long)
    places = torch.full((count,), len(numbers))
    places[numbers] = torch.arange(len(numbers))
    return Taken(numbers.to(device), places.to(device))
