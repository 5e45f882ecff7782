"""Attention of many completions at once, each to its own prompt: a prompt is kept once, however many continue it.

A row is one completion under way. It has a memory of its own (keys and values of the tokens that were drawn for
it), and may have part in a prompt's, which lies apart. Its query attends to both, and the two results are merged
by their log-sum-exp, which is exact. So the rows of one request read its prompt's keys and values once per step
instead of once each, nothing is copied as completions grow, and rows of different lengths decode side by side.

Registered with transformers as the attention `palate-shared`, so no model is patched: what a model's forward is
given as `memory` reaches `attend` with each layer's queries, keys and values.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from trainer.attention import OtherAttentionError, attend, attends_in_chunks, plain_scaling

SHARED_ATTENTION = "palate-shared"

_COPIED_TOKENS = 512
"""A prompt of fewer tokens, counted once for every row, is copied to its rows: cheaper than attending apart."""
_LEAST_ROOM = 64


class Memory(Protocol):
    """What one forward reads and adds to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
        """Remember `key` and `value`, and give what `query` finds, shape (batch, tokens, heads, head size)."""


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    memory: Memory,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; `query` has the shape (batch, heads, tokens, head size)."""
    scaling = plain_scaling(query, attention_mask, scaling, others)
    if attends_in_chunks(getattr(module, "config", None)):
        raise OtherAttentionError("its attention is to chunks")
    layer: Any = module.layer_idx
    return memory.attend(layer, query, key, value, scaling=scaling), None


AttentionInterface.register(SHARED_ATTENTION, _attention)


class PromptMemory:
    """Keys and values of one prompt of `tokens` tokens, read in one or more pieces; `length` are read so far."""

    def __init__(self, tokens: int) -> None:
        self.length = 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        """For each layer keys and values, shape (1, key heads, tokens, head size)."""
        self._tokens = tokens

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
        """Each token of a piece to itself, the earlier ones of the piece, and all earlier pieces."""
        begin, end = self.length, self.length + key.shape[2]
        if layer not in self.layers:
            self.layers[layer] = _empty_like(key, 1, self._tokens), _empty_like(value, 1, self._tokens)
        keys, values = self.layers[layer]
        keys[:, :, begin:end], values[:, :, begin:end] = key, value
        mask = None
        if begin:
            reach = torch.arange(begin, end, device=query.device)
            mask = torch.arange(end, device=query.device) <= reach[:, None]
        found = functional.scaled_dot_product_attention(
            query, keys[:, :, :end], values[:, :, :end], attn_mask=mask, is_causal=mask is None, scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        return found.transpose(1, 2)


class RowMemory:
    """Keys and values of the rows of a batch: their own tokens, and the prompts that lie apart.

    Rows are counted from 0. `begin_step` once, then one forward of one token per row, then `end_step`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        """For each layer keys and values, shape (rows or more, key heads, tokens or more, head size)."""
        self._lengths: list[int] = []
        self._prompts: list[PromptMemory | None] = []
        self._rows = torch.empty(0)
        self._next = torch.empty(0)
        self._mask: Tensor | None = None
        self._apart: list[tuple[PromptMemory, slice | Tensor]] = []

    def __len__(self) -> int:
        return len(self._lengths)

    def positions(self) -> list[int]:
        """The position of each row's next token."""
        pairs = zip(self._lengths, self._prompts, strict=True)
        return [length + (prompt.length if prompt else 0) for length, prompt in pairs]

    def add(self, prompt: PromptMemory, rows: int) -> None:
        """Add rows that continue a prompt."""
        begin = len(self)
        if prompt.length * rows > _COPIED_TOKENS:
            self._lengths += [0] * rows
            self._prompts += [prompt] * rows
            return
        self._lengths += [prompt.length] * rows
        self._prompts += [None] * rows
        for layer, (keys, values) in prompt.layers.items():
            for own, read in zip(self._room(layer, keys, values), (keys, values), strict=True):
                own[begin : begin + rows, :, : prompt.length] = read

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self) - 1
        length = self._lengths[last]
        for own in (tensor for pair in self._layers.values() for tensor in pair):
            if row != last:
                own[row, :, :length] = own[last, :, :length]
        self._lengths[row], self._prompts[row] = self._lengths[last], self._prompts[last]
        del self._lengths[last], self._prompts[last]
        if not self._lengths:
            self._layers.clear()

    def begin_step(self) -> None:
        """Work out once what all layers need: where each row writes, and what it may see."""
        self._next = torch.tensor(self._lengths, device=self._device)
        self._rows = torch.arange(len(self), device=self._device)
        self._mask = None
        if min(self._lengths) < max(self._lengths):
            seen = torch.arange(max(self._lengths) + 1, device=self._device) <= self._next[:, None]
            self._mask = torch.zeros(seen.shape, device=self._device).masked_fill_(~seen, -torch.inf)[:, None, None]
        rows_of: dict[PromptMemory, list[int]] = {}
        for row, prompt in enumerate(self._prompts):
            if prompt:
                rows_of.setdefault(prompt, []).append(row)
        self._apart = [(prompt, _index(rows, self._device)) for prompt, rows in rows_of.items()]

    def end_step(self) -> None:
        """Each row has one token more."""
        self._lengths = [length + 1 for length in self._lengths]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
        """The one new token of each row to its own tokens and to its prompt."""
        keys, values = self._room(layer, key, value)
        keys[self._rows, :, self._next], values[self._rows, :, self._next] = key[:, :, 0], value[:, :, 0]
        rows, width = len(self), max(self._lengths) + 1
        mask = None if self._mask is None else self._mask.to(query.dtype)
        # Heads that share keys stand beside one another as if they were tokens.
        query = query.reshape(rows, key.shape[1], -1, query.shape[-1])
        found, mass = attend(query, keys[:rows, :, :width], values[:rows, :, :width], scaling=scaling, mask=mask)
        for prompt, rows_here in self._apart:
            there, mass_there = _attend_together(query[rows_here], *prompt.layers[layer], scaling)
            share = torch.sigmoid(mass_there - mass[rows_here]).unsqueeze(-1).to(found.dtype)
            found[rows_here] = found[rows_here].lerp(there, share)
        return found.reshape(rows, 1, -1, found.shape[-1])

    def _room(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's tensors, made large enough for one token more of every row."""
        rows, tokens = len(self), max(self._lengths) + 1
        if layer not in self._layers:
            self._layers[layer] = _empty_like(key, rows, _LEAST_ROOM), _empty_like(value, rows, _LEAST_ROOM)
        keys, values = self._layers[layer]
        if keys.shape[0] < rows or keys.shape[2] < tokens:
            keys, values = (_grown(tensor, rows, tokens) for tensor in (keys, values))
            self._layers[layer] = keys, values
        return keys, values


def _attend_together(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """The queries of several rows to one prompt's keys (1, heads, tokens, head size), which are read once."""
    rows, heads, queries, size = query.shape
    side_by_side = query.transpose(0, 1).reshape(1, heads, rows * queries, size)
    found, mass = attend(side_by_side, keys, values, scaling=scaling)
    found = found.reshape(heads, rows, queries, -1).transpose(0, 1)
    return found, mass.reshape(heads, rows, queries).transpose(0, 1)


def _index(rows: list[int], device: torch.device) -> slice | Tensor:
    """Rows as an index, a slice where they lie side by side: nothing is copied then."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)


def _empty_like(tensor: Tensor, rows: int, tokens: int) -> Tensor:
    # Zeros, as what lies in masked places is multiplied by zero: it must be a number.
    return tensor.new_zeros(rows, tensor.shape[1], tokens, tensor.shape[3])


def _grown(tensor: Tensor, rows: int, tokens: int) -> Tensor:
    """A copy with room for at least so many rows and tokens, half as much again where it grows."""
    old_rows, _, old_tokens, _ = tensor.shape
    larger = _empty_like(
        tensor,
        old_rows if rows <= old_rows else max(rows, old_rows * 3 // 2),
        old_tokens if tokens <= old_tokens else max(tokens, old_tokens * 3 // 2),
    )
    larger[:old_rows, :, :old_tokens] = tensor
    return larger
