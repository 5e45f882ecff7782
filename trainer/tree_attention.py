"""Exact attention over packed trees: a prompt is read once, however many completions continue it.

Every token attends to what stands before it in its own segment, a prompt or a branch, and a branch's tokens to their
whole prompt as well; the two results are merged by their log-sum-exp. Nothing is masked, so nothing is computed in
vain. Backward, the gradient of each part follows from the merged result and its log-sum-exp (as in FlashAttention's
recomputation, arXiv:2205.14135, algorithm 4): probabilities are computed anew, and none is kept.

Registered with transformers as the attention `palate-trees`, so no model is patched: what a model's forward is given as
`pack` reaches every layer with its queries, keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from trainer.attention import OtherAttentionError, attend, attends_in_chunks, plain_scaling, scores_of, wide
from trainer.flash_attention import FlashKernel, attend_in_segments
from trainer.packing import Pack
from trainer.segments import Trunk

TREE_ATTENTION = "palate-trees"


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    pack: Pack,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; `query` has the shape (1, heads, tokens, head size)."""
    scaling = plain_scaling(query, attention_mask, scaling, others)
    if attends_in_chunks(getattr(module, "config", None)):
        raise OtherAttentionError("its attention is to chunks")
    if torch.is_autocast_enabled(query.device.type):  # rotary embeddings leave queries and keys in float32
        query, key, value = (each.to(torch.get_autocast_dtype(query.device.type)) for each in (query, key, value))
    if FlashKernel.takes(query, value):
        found = attend_in_segments(query, key, value, scaling, pack.layout, FlashKernel())
    else:
        found = _OverTrees.apply(query, key, value, scaling, pack.trunks)  # type: ignore[no-untyped-call]
    return found.transpose(1, 2), None


AttentionInterface.register(TREE_ATTENTION, _attention)


class _OverTrees(torch.autograd.Function):
    """Queries (1, heads, tokens, head size); keys and values have as many heads or fewer, each for several queries."""

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd hands them over by position)
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, trunks: Sequence[Trunk]
    ) -> Tensor:
        batch, heads, tokens, _ = query.shape
        found = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
        of_scores = torch.promote_types(query.dtype, torch.float32)
        mass = query.new_empty(batch, tokens, heads, dtype=of_scores).transpose(1, 2)
        ctx.scaling, ctx.trunks = scaling, trunks
        ctx.save_for_backward(query, key, value, found, mass)
        key, value = _for_each_head(key, heads), _for_each_head(value, heads)
        for queries, keys, causal in _own(trunks):
            found[:, :, queries], mass[:, :, queries] = attend(
                query[:, :, queries], key[:, :, keys], value[:, :, keys], causal=causal, scaling=scaling
            )
        for queries, keys, causal in _to_prompts(trunks):
            there, mass_there = attend(
                query[:, :, queries], key[:, :, keys], value[:, :, keys], causal=causal, scaling=scaling
            )
            share = torch.sigmoid(mass_there - mass[:, :, queries]).unsqueeze(-1).to(found.dtype)
            found[:, :, queries] = found[:, :, queries].lerp(there, share)
            mass[:, :, queries] = torch.logaddexp(mass_there, mass[:, :, queries])
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, found, mass = ctx.saved_tensors
        key_heads, heads = key.shape[1], query.shape[1]
        key, value = _for_each_head(key, heads), _for_each_head(value, heads)
        of_query, of_key, of_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for queries, keys, causal in _own(ctx.trunks):  # every token once, so these are set
            of_query[:, :, queries], of_key[:, :, keys], of_value[:, :, keys] = gradients(
                gradient[:, :, queries], query[:, :, queries], key[:, :, keys], value[:, :, keys],
                found[:, :, queries], mass[:, :, queries], causal=causal, scaling=ctx.scaling,
            )  # fmt: skip
        for queries, keys, causal in _to_prompts(ctx.trunks):
            more = gradients(
                gradient[:, :, queries], query[:, :, queries], key[:, :, keys], value[:, :, keys],
                found[:, :, queries], mass[:, :, queries], causal=causal, scaling=ctx.scaling,
            )  # fmt: skip
            of_query[:, :, queries] += more[0]
            of_key[:, :, keys] += more[1]
            of_value[:, :, keys] += more[2]
        return of_query, _for_key_heads(of_key, key_heads), _for_key_heads(of_value, key_heads), None, None


def _for_each_head(tensor: Tensor, heads: int) -> Tensor:
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], 1)


def _for_key_heads(gradient: Tensor, key_heads: int) -> Tensor:
    batch, _, tokens, size = gradient.shape
    return gradient.reshape(batch, key_heads, -1, tokens, size).sum(2)


_Part = tuple[slice, slice, bool]
"""Which queries attend to which keys, and whether only to those before them."""


def _own(trunks: Sequence[Trunk]) -> Iterator[_Part]:
    for trunk in trunks:
        for segment in (trunk.prompt, *trunk.each):
            yield segment, segment, True


def _to_prompts(trunks: Sequence[Trunk]) -> Iterator[_Part]:
    for trunk in trunks:
        if trunk.each:
            yield trunk.branches, trunk.prompt, False


def gradients(  # noqa: PLR0917  (as in the formulas)
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, mass: Tensor,
    *, causal: bool, scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, where `found` and `mass` may be those of more keys than the ones given."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # type: ignore[no-any-return]
            gradient, query, key, value, found, mass, 0.0, causal, scale=scaling
        )
    return plain_gradients(gradient, query, key, value, found, mass, causal=causal, scaling=scaling)


def plain_gradients(  # noqa: PLR0917
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, mass: Tensor,
    *, causal: bool, scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The same by plain operations, for devices whose kernel torch does not offer with the log-sum-exp."""
    shares = (scores_of(query, key, scaling=scaling, causal=causal) - mass.unsqueeze(-1)).exp()
    of_value = shares.to(gradient.dtype).transpose(-1, -2) @ gradient
    to_value = wide(gradient @ value.transpose(-1, -2))
    constant = (wide(gradient) * wide(found)).sum(-1, keepdim=True)
    of_scores = (shares * (to_value - constant) * scaling).to(query.dtype)
    return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value
