"""How a version reads tokens: all rows of a batch in one forward, or each request in a forward of its own.

`SharedReader` is the fast way, for models whose attention can be shared. `SeparateReader` is transformers' own way
with its own cache, right for whatever transformers can generate with: sliding windows, soft-capped scores,
recurrent states. `fitting_reader` finds out by trying which of them a model takes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trainer.serving.attention import SHARED_ATTENTION, Memory, PromptMemory, RowMemory
from trainer.serving.errors import BrokenModelError

log = logging.getLogger(__name__)

_TRIED_TOKENS = 10
_TOLERANCE = {torch.float32: 1e-3}
_COARSE_TOLERANCE = 0.05
"""Of a 16-bit format: two ways to compute the same logits differ by its rounding."""


class Reader(Protocol):
    """Reads prompts in pieces, then one token for each row at a time. A row is one completion under way."""

    def __init__(self, model: PreTrainedModel) -> None: ...

    def open(self, prompt_tokens: int) -> Any:
        """The memory of a prompt that is going to be read."""

    def read(self, memory: Any, token_ids: Sequence[int]) -> Tensor:
        """Read the next piece of a prompt; logits after it, shape (1, vocabulary)."""

    def add(self, memory: Any, rows: int) -> None:
        """Add rows that continue a prompt."""

    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Read one token for every row; logits after them, shape (rows, vocabulary)."""

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""


class SharedReader:
    """All rows in one forward, whatever request they belong to."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._rows = RowMemory(model.device)

    def open(self, prompt_tokens: int) -> PromptMemory:
        """The memory of a prompt that is going to be read."""
        return PromptMemory(prompt_tokens)

    def read(self, memory: PromptMemory, token_ids: Sequence[int]) -> Tensor:
        """Read the next piece of a prompt; logits after it, shape (1, vocabulary)."""
        positions = range(memory.length, memory.length + len(token_ids))
        logits = self._forward([list(token_ids)], [list(positions)], memory)
        memory.length += len(token_ids)
        return logits

    def add(self, memory: PromptMemory, rows: int) -> None:
        """Add rows that continue a prompt."""
        self._rows.add(memory, rows)

    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Read one token for every row; logits after them, shape (rows, vocabulary)."""
        self._rows.begin_step()
        positions = [[position] for position in self._rows.positions()]
        logits = self._forward([[token_id] for token_id in token_ids], positions, self._rows)
        self._rows.end_step()
        return logits

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        self._rows.remove(row)

    def _forward(self, token_ids: list[list[int]], positions: list[list[int]], memory: Memory) -> Tensor:
        output: Any = self._model(
            input_ids=torch.tensor(token_ids, device=self._model.device),
            position_ids=torch.tensor(positions, device=self._model.device),
            use_cache=False,
            logits_to_keep=1,
            memory=memory,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


@dataclass(eq=False)
class _Group:
    """The rows of one request: transformers' cache, and the numbers of its rows in the cache's order."""

    cache: DynamicCache
    rows: list[int] = field(default_factory=list)


class SeparateReader:
    """Each request in a forward of its own, with transformers' cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._groups: list[_Group] = []

    def open(self, prompt_tokens: int) -> _Group:
        """The memory of a prompt that is going to be read."""
        return _Group(DynamicCache(config=self._model.config))

    def read(self, memory: _Group, token_ids: Sequence[int]) -> Tensor:
        """Read the next piece of a prompt; logits after it, shape (1, vocabulary)."""
        return self._forward([list(token_ids)], memory.cache)

    def add(self, memory: _Group, rows: int) -> None:
        """Add rows that continue a prompt."""
        begin = self._row_count()
        memory.rows = list(range(begin, begin + rows))
        memory.cache.reorder_cache(torch.zeros(rows, dtype=torch.long, device=self._model.device))
        self._groups.append(memory)

    def step(self, token_ids: Sequence[int]) -> Tensor:
        """Read one token for every row; logits after them, shape (rows, vocabulary)."""
        found = [self._forward([[token_ids[row]] for row in group.rows], group.cache) for group in self._groups]
        order = torch.tensor([row for group in self._groups for row in group.rows], device=self._model.device)
        return torch.cat(found)[order.argsort()]

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = self._row_count() - 1
        [group] = [group for group in self._groups if row in group.rows]
        kept = [index for index, number in enumerate(group.rows) if number != row]
        group.rows = [group.rows[index] for index in kept]
        if kept:
            group.cache.reorder_cache(torch.tensor(kept, device=self._model.device))
        else:
            self._groups.remove(group)
        for other in self._groups:
            other.rows = [row if number == last else number for number in other.rows]

    def _row_count(self) -> int:
        return sum(len(group.rows) for group in self._groups)

    def _forward(self, token_ids: list[list[int]], cache: DynamicCache) -> Tensor:
        read = torch.tensor(token_ids, device=self._model.device)
        output: Any = self._model(input_ids=read, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1]
        return logits


def fitting_reader(model: PreTrainedModel, *, context_tokens: int, known: type[Reader] | None = None) -> type[Reader]:
    """The fastest reader that finds the logits of a plain forward; the model is set up for it.

    One that is `known` to fit another model on the same weights is only tried for numbers.
    Raises BrokenModelError for a model that computes something other than numbers, and whatever a model raises
    that cannot generate at all.
    """
    vocabulary = int(model.config.get_text_config().vocab_size)
    token_ids = [number * 7919 % vocabulary for number in range(min(_TRIED_TOKENS, context_tokens))]
    if known is not None:
        if known is SharedReader:
            model.set_attn_implementation(SHARED_ATTENTION)
        reader = known(model)
        if not bool(numeric_rows(reader.read(reader.open(2), token_ids[:2])).all()):
            raise BrokenModelError()
        return known
    output: Any = model(input_ids=torch.tensor([token_ids], device=model.device), use_cache=False)
    expected: Tensor = output.logits[0]
    if not bool(numeric_rows(expected).all()):
        raise BrokenModelError()
    as_loaded = model.config._attn_implementation
    try:
        model.set_attn_implementation(SHARED_ATTENTION)
        if _agree(_logits_read_by(SharedReader(model), token_ids), expected):
            return SharedReader
        reason = "the logits differ"
    except Exception as error:  # whatever a model's own code raises where it is called otherwise than it knows
        reason = str(error)
    log.info("Requests are not computed together: %s", reason, extra={"fields": {"model": type(model).__name__}})
    model.set_attn_implementation(as_loaded)
    _logits_read_by(SeparateReader(model), token_ids)
    return SeparateReader


def numeric_rows(logits: Tensor) -> Tensor:
    """Which rows of logits can be drawn from, shape (rows,): those without NaN and without positive infinity."""
    return (logits < torch.inf).all(-1)


def _logits_read_by(reader: Reader, token_ids: list[int]) -> Tensor:
    """Logits after each token from the middle on, read in pieces and then by two rows, shape (tokens, vocabulary)."""
    middle = len(token_ids) // 2
    memory = reader.open(middle)
    pieces = [piece for piece in (token_ids[: middle // 2], token_ids[middle // 2 : middle]) if piece]
    found = [reader.read(memory, piece) for piece in pieces][-1:]
    reader.add(memory, 2)
    for token_id in token_ids[middle:]:
        found.append(reader.step([token_id, token_id])[1:])
    return torch.cat(found)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits are the last of the expected ones, but for rounding."""
    expected = expected[-len(found) :]
    tolerance = _TOLERANCE.get(expected.dtype, _COARSE_TOLERANCE)
    return bool((found - expected).abs().max() <= tolerance * expected.float().std(-1).max().clamp(min=1e-6))
