"""The language-model head on completion tokens alone: log-probabilities and drift, with the vocabulary seen once.

Autograd would keep and copy logits several times over, which on small models with large vocabularies is most of the
memory and much of the time. Here they are kept once, or where even that is much computed anew, and become their own
gradient in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.contract.run import Matrices
from trainer.matrices import product

KEPT_LOGITS = {"cpu": 64_000_000, "cuda": 1_000_000_000}
"""Most logits that are kept for the backward pass (256 MB and 4 GB in float32); more are computed anew, in pieces."""
PIECE_LOGITS = {"cpu": 16_000_000, "cuda": 256_000_000}
"""Most logits in one piece. A GPU waits for the next call of a kernel where each has little to do."""


def completion_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    reference_logps: Tensor | None = None,
    *,
    matrices: Matrices = Matrices.TORCH,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target in nats, and KL(reference || policy) where it stands; float32, shape (tokens,).

    `hidden` is what the head is given, shape (tokens, width); `weight` (vocabulary, width) and `bias` are the head's.
    `reference_logps` (tokens, vocabulary) are the reference's log-probabilities; without them the KL is all zeros.
    `matrices` says what multiplies.
    """
    found: tuple[Tensor, Tensor] = _Head.apply(hidden, weight, bias, targets, reference_logps, matrices)  # type: ignore[no-untyped-call]
    return found


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        reference_logps: Tensor | None,
        matrices: Matrices,
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = hidden.shape[0], weight.shape[0]
        wants_gradient = any(ctx.needs_input_grad[:3])
        keeps = wants_gradient and tokens * vocabulary <= KEPT_LOGITS[hidden.device.type]
        kept = _logits(hidden if keeps else hidden[:0], weight, bias, matrices)
        logps = torch.empty(tokens, dtype=_wide(hidden), device=hidden.device)
        masses, totals, drift = torch.empty_like(logps), torch.ones_like(logps), torch.zeros_like(logps)
        for piece in _pieces(tokens, vocabulary, hidden.device):
            logits = kept[piece] if keeps else _logits(hidden[piece], weight, bias, matrices)
            at_target = logits.gather(-1, targets[piece, None]).squeeze(-1)
            if reference_logps is not None:
                there = reference_logps[piece]
                drift[piece] = (there.exp() * (there - logits)).sum(-1)
            most = logits.amax(-1)
            total = logits.sub_(most[:, None]).exp_().sum(-1)
            masses[piece] = most + total.log()
            logps[piece] = at_target - masses[piece]
            if keeps:
                totals[piece] = total
        if reference_logps is not None:
            drift += masses
        ctx.matrices = matrices
        ctx.save_for_backward(hidden, weight, bias, targets, reference_logps, masses, totals, kept)
        return logps, drift

    @staticmethod
    def backward(ctx: Any, of_logps: Tensor, of_drift: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, reference_logps, masses, totals, kept = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight: Tensor | None = None
        of_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        pieces = [slice(0, len(kept))] if len(kept) else _pieces(hidden.shape[0], weight.shape[0], hidden.device)
        for piece in pieces:
            # Of the vocabulary, times their totals; those computed anew have a total of 1.
            shares = kept
            if not len(kept):
                shares = _logits(hidden[piece], weight, bias, ctx.matrices).sub_(masses[piece, None]).exp_()
            if reference_logps is None:
                shares.mul_((-of_logps[piece] / totals[piece])[:, None])
            else:
                shares.mul_(((of_drift[piece] - of_logps[piece]) / totals[piece])[:, None])
                shares.addcmul_(reference_logps[piece].exp(), of_drift[piece, None], value=-1)
            of_logits = shares.scatter_add_(-1, targets[piece, None], of_logps[piece, None]).to(hidden.dtype)
            if of_hidden is not None:
                of_hidden[piece] = product(of_logits, weight, ctx.matrices)
            if ctx.needs_input_grad[1]:
                of_weight = _summed_product(of_weight, of_logits.t(), hidden[piece], ctx.matrices)
            if of_bias is not None:
                of_bias += of_logits.sum(0)
        return of_hidden, of_weight, of_bias, None, None, None


def _summed_product(sofar: Tensor | None, one: Tensor, other: Tensor, matrices: Matrices) -> Tensor:
    if sofar is None or matrices is Matrices.ONEDNN:
        found = product(one, other, matrices)
        return found if sofar is None else sofar.add_(found)
    return sofar.addmm_(one, other)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, matrices: Matrices) -> Tensor:
    logits = product(hidden, weight.t(), matrices)
    return (logits if bias is None else logits.add_(bias)).to(_wide(hidden))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _pieces(tokens: int, vocabulary: int, device: torch.device) -> list[slice]:
    rows = max(1, PIECE_LOGITS[device.type] // vocabulary)
    return [slice(begin, min(tokens, begin + rows)) for begin in range(0, tokens, rows)]
