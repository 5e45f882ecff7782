"""Prompts with their completions, laid out for one forward: every prompt once, and no padding.

A **tree** is a prompt and the completions that continue it, its branches. A **pack** is some trees as one forward reads
them, with what a loss needs to know of it: one after the other along one axis of tokens (`packed`), or every completion
with its prompt in a row of its own (`padded`). The last token of a completion predicts nothing that is asked for, so it
is not read, unless a row is wanted whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from trainer.segments import Layout, Trunk, layout_of

Item = TypeVar("Item")


@dataclass(frozen=True)
class Tokens:
    """One prompt and one completion of it as token ids, the completion's end token included."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Tree:
    """A prompt and completions of it as token ids, each of one token or more; end tokens are part of completions."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    @property
    def sequences(self) -> list[Tokens]:
        """Each completion with its prompt."""
        return [Tokens(self.prompt, completion) for completion in self.completions]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest completion."""
        return len(self.prompt) + max(map(len, self.completions))

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and of all completions."""
        return len(self.prompt) + self.scored_tokens

    @property
    def read_tokens(self) -> int:
        """Tokens that a forward reads."""
        return len(self.prompt) + sum(len(completion) - 1 for completion in self.completions)

    @property
    def scored_tokens(self) -> int:
        """Completion tokens, each of which gets a log-probability."""
        return sum(len(completion) for completion in self.completions)

    @property
    def apart(self) -> list[Tree]:
        """Each completion as a tree of its own."""
        return [Tree(self.prompt, (completion,)) for completion in self.completions]

    def within(self, vocabulary: int) -> Tree:
        """A tree of this form whose tokens a vocabulary of that size has."""
        return Tree(
            tuple(token % vocabulary for token in self.prompt),
            tuple(tuple(token % vocabulary for token in completion) for completion in self.completions),
        )


@dataclass(frozen=True)
class Pack:
    """Trees as one forward reads them. `input_ids` and `position_ids` have the shape (rows, tokens).

    The others have one entry per completion token, completion by completion in the order of the trees: where the token
    lies that predicts it (rows counted through), its id, its number within its completion, its completion's number.
    """

    trunks: tuple[Trunk, ...]
    """Where the trees lie that stand side by side; none where every completion has its own row."""
    input_ids: Tensor
    position_ids: Tensor
    predictors: Tensor
    targets: Tensor
    offsets: Tensor
    completions: Tensor
    counts: tuple[int, ...]
    """Tokens of each completion."""

    @cached_property
    def layout(self) -> Layout:
        """How the trees attend, for all layers at once."""
        return layout_of(self.trunks, self.input_ids.device)

    def summed(self, values: Tensor) -> Tensor:
        """Sums over each completion's tokens, shape (completions,), accumulated in float64."""
        sums = torch.zeros(len(self.counts), dtype=torch.float64, device=values.device)
        return sums.index_add(0, self.completions, values.double())


def trees_of(sequences: Iterable[Tokens]) -> list[Tree]:
    """One tree per prompt, with each of its completions once, in the order in which they come."""
    completions: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
    for sequence in sequences:
        completions.setdefault(sequence.prompt, {})[sequence.completion] = None
    return [Tree(prompt, tuple(found)) for prompt, found in completions.items()]


def packed(trees: Sequence[Tree], *, device: torch.device | str = "cpu") -> Pack:
    """Lay trees side by side in one row."""
    trunks: list[Trunk] = []
    input_ids: list[int] = []
    position_ids: list[int] = []
    predictors: list[int] = []
    for tree in trees:
        begin = len(input_ids)
        end = begin + len(tree.prompt)
        input_ids += tree.prompt
        position_ids += range(len(tree.prompt))
        each: list[slice] = []
        for completion in tree.completions:
            first = len(input_ids)
            input_ids += completion[:-1]
            position_ids += range(len(tree.prompt), len(tree.prompt) + len(completion) - 1)
            predictors += [end - 1, *range(first, len(input_ids))]
            if len(input_ids) > first:
                each.append(slice(first, len(input_ids)))
        trunks.append(Trunk(slice(begin, end), slice(end, len(input_ids)), tuple(each)))
    return _pack(trees, tuple(trunks), torch.tensor([input_ids]), torch.tensor([position_ids]), predictors, device)


def padded(trees: Sequence[Tree], *, whole: bool = False, device: torch.device | str = "cpu") -> Pack:
    """Give every completion, with its prompt before it, a row of its own, padded on the right.

    With `whole` there is room for last tokens too, for models to which the length matters.
    """
    rows = [[*tree.prompt, *completion[:-1]] for tree in trees for completion in tree.completions]
    width = max(map(len, rows)) + whole
    predictors: list[int] = []
    for number, (prompt, row) in enumerate(zip(_prompt_of_each(trees), rows, strict=True)):
        predictors += range(number * width + len(prompt) - 1, number * width + len(row))
    input_ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return _pack(trees, (), input_ids, torch.arange(width).expand(len(rows), width), predictors, device)


def _prompt_of_each(trees: Sequence[Tree]) -> list[tuple[int, ...]]:
    return [tree.prompt for tree in trees for _ in tree.completions]


def _pack(  # noqa: PLR0917
    trees: Sequence[Tree],
    trunks: tuple[Trunk, ...],
    input_ids: Tensor,
    position_ids: Tensor,
    predictors: list[int],
    device: torch.device | str,
) -> Pack:
    completions = [completion for tree in trees for completion in tree.completions]
    counts = tuple(len(completion) for completion in completions)
    return Pack(
        trunks=trunks,
        input_ids=input_ids.to(device),
        position_ids=position_ids.to(device),
        predictors=torch.tensor(predictors, device=device),
        targets=torch.tensor([token for completion in completions for token in completion], device=device),
        offsets=torch.tensor([offset for count in counts for offset in range(count)], device=device),
        completions=torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device),
        counts=counts,
    )


def runs_that_fit(items: Iterable[Item], fits: Callable[[list[Item]], bool]) -> Iterator[list[Item]]:
    """The items, in order, in runs that fit; one at the least, which is never divided."""
    run: list[Item] = []
    for item in items:
        if run and not fits([*run, item]):
            yield run
            run = []
        run.append(item)
    if run:
        yield run
