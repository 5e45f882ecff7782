"""Tree attention where every call of a kernel costs: two of them per layer, however many trees there are.

On a GPU a kernel that attends within hundreds of segments takes hardly longer than one for a single segment. So all
tokens are handed over at once with where their segments begin: first for what each segment finds in itself, then for
what branches find in their prompts. The two are merged, and differentiated, as in `tree_attention`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.devices import strictly_repeatable
from trainer.segments import Layout, Segments

_LARGEST_HEAD = 256
_LEAST_CAPABILITY = (8, 0)


class Kernel(Protocol):
    """What attends within segments; queries have the shape (queries, heads, head size), keys and values (keys, key
    heads, head size), the log-sum-exp of scores (heads, queries). That and a gradient must be contiguous."""

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """What each query finds, and the log-sum-exp of its scores."""

    def gradients(  # noqa: PLR0917  (as in the formulas)
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, mass: Tensor,
        segments: Segments, *, scaling: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of query, key and value, where `found` and `mass` may be those of more keys than the ones given."""


class FlashKernel:
    """FlashAttention-2 as torch brings it for CUDA."""

    @staticmethod
    def takes(query: Tensor, value: Tensor) -> bool:
        """Whether it can: 16-bit numbers, on a GPU of 2020 or later."""
        size = query.shape[-1]
        return (
            query.is_cuda
            and query.dtype in {torch.bfloat16, torch.float16}
            and size % 8 == 0
            and size <= _LARGEST_HEAD
            and value.shape[-1] == size
            and torch.cuda.get_device_capability(query.device) >= _LEAST_CAPABILITY
        )

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, segments: Segments, *, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """As the protocol says."""
        found, mass, *_ = torch.ops.aten._flash_attention_forward(
            query, key, value, segments.queries, segments.keys, segments.most_queries, segments.most_keys,
            0.0, segments.causal, False, scale=scaling,
        )  # fmt: skip
        return found, mass

    def gradients(  # noqa: PLR0917
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, mass: Tensor,
        segments: Segments, *, scaling: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """As the protocol says."""
        no_dropout = torch.zeros(2, dtype=torch.uint64, device=query.device)
        with strictly_repeatable():
            return torch.ops.aten._flash_attention_backward(  # type: ignore[no-any-return]
                gradient, query, key, value, found, mass, segments.queries, segments.keys,
                segments.most_queries, segments.most_keys, 0.0, segments.causal, no_dropout,
                torch.empty(0, device=query.device), scale=scaling,
            )  # fmt: skip


def attend_in_segments(  # noqa: PLR0917
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Layout, kernel: Kernel
) -> Tensor:
    """What each query finds; all have the shape (1, heads or key heads, tokens, head size)."""
    flat = [tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
    found: Tensor = _InSegments.apply(*flat, scaling, layout, kernel)  # type: ignore[no-untyped-call]
    return found.transpose(0, 1).unsqueeze(0)


class _InSegments(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  (autograd hands them over by position)
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Layout, kernel: Kernel
    ) -> Tensor:
        found, mass = kernel.attend(query, key, value, layout.own, scaling=scaling)
        branches, prompts = layout.branches, layout.prompts
        if len(branches.numbers):
            there, mass_there = kernel.attend(
                branches.of(query), prompts.of(key), prompts.of(value), layout.to_prompts, scaling=scaling
            )
            mass_there = branches.put_back(mass_there.t(), otherwise=-torch.inf).t()
            share = torch.sigmoid(mass_there - mass).t().unsqueeze(-1)
            found = found.lerp(branches.put_back(there), share.to(found.dtype))
            mass = torch.logaddexp(mass_there, mass).contiguous()
        ctx.scaling, ctx.layout, ctx.kernel = scaling, layout, kernel
        ctx.save_for_backward(query, key, value, found, mass)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found, mass = ctx.saved_tensors
        scaling, layout, kernel = ctx.scaling, ctx.layout, ctx.kernel
        branches, prompts = layout.branches, layout.prompts
        of_query, of_key, of_value = kernel.gradients(
            gradient.contiguous(), query, key, value, found, mass, layout.own, scaling=scaling
        )
        if len(branches.numbers):
            more = kernel.gradients(
                branches.of(gradient), branches.of(query), prompts.of(key), prompts.of(value),
                branches.of(found), branches.of(mass.t()).t().contiguous(), layout.to_prompts, scaling=scaling,
            )  # fmt: skip
            of_query += branches.put_back(more[0])
            of_key += prompts.put_back(more[1])
            of_value += prompts.put_back(more[2])
        return of_query, of_key, of_value, None, None, None
