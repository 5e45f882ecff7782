"""The language-model head on completion tokens alone: log-probabilities and drift, with the vocabulary seen once.

Autograd would keep and copy logits several times over, which on small models with large vocabularies is most of the
memory and much of the time. Here they are kept once, or where even that is much computed anew, and become their own
gradient in place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.contract.run import Matrices
from trainer.matrices import product

PIECE_LOGITS = {"cpu": 16_000_000, "cuda": 256_000_000}
"""Most logits computed at once where none are kept. A GPU waits for the next kernel where each has little to do."""
PASSING_LOGITS = {"cpu": 1_000_000, "cuda": 256_000_000}
"""Most logits of which anything of their size is made in passing: on a CPU, what stays in its cache."""


@dataclass(frozen=True)
class Distributions:
    """A model's log-probabilities of the whole vocabulary at completion tokens, asked for by slices of these.

    With `head`, a matrix, `found` is what the head was given there, shape (tokens, width), and they are made of it
    whenever they are asked for; else `found` is what they are.
    """

    found: Tensor
    head: torch.nn.Module | None = None

    @torch.no_grad()
    def __getitem__(self, tokens: slice) -> Tensor:
        """At these tokens, shape (tokens, vocabulary), in nats."""
        if self.head is None:
            return self.found[tokens]
        weight: Any = self.head.weight
        logits: Tensor = self.head(self.found[tokens].to(weight.dtype))
        logits = logits.to(_wide(logits))
        for rows in _few_rows(logits):
            logits[rows] = logits[rows].log_softmax(-1)
        return logits


def completion_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    reference: Distributions | None = None,
    *,
    matrices: Matrices = Matrices.TORCH,
    most_kept: int = sys.maxsize,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target in nats, and KL(reference || policy) where it stands; float32, shape (tokens,).

    `hidden` is what the head is given, shape (tokens, width); `weight` (vocabulary, width) and `bias` are the head's.
    Without `reference`, which says what the reference does there, the KL is all zeros. `matrices` says what multiplies.
    Of more logits than `most_kept` none are kept for the backward pass: they are computed anew, in pieces.
    """
    found: tuple[Tensor, Tensor] = _Head.apply(hidden, weight, bias, targets, reference, matrices, most_kept)  # type: ignore[no-untyped-call]
    return found


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        reference: Distributions | None,
        matrices: Matrices,
        most_kept: int,
    ) -> tuple[Tensor, Tensor]:
        count, vocabulary = hidden.shape[0], weight.shape[0]
        wants_gradient = any(ctx.needs_input_grad[:3])
        keeps = wants_gradient and count * vocabulary <= most_kept
        kept = _logits(hidden if keeps else hidden[:0], weight, bias, matrices)
        all_there = reference[:] if keeps and reference else None
        logps = torch.empty(count, dtype=_wide(hidden), device=hidden.device)
        masses, totals, drift = torch.empty_like(logps), torch.ones_like(logps), torch.zeros_like(logps)
        for piece in _multiplied_at_once(hidden, weight, keeps=keeps, most=most_kept):
            found = kept if keeps else _logits(hidden[piece], weight, bias, matrices)
            there = all_there if keeps or reference is None else reference[piece]
            for tokens, rows in _in_passing(piece, found):
                logits = found[rows]
                at_target = logits.gather(-1, targets[tokens, None]).squeeze(-1)
                if there is not None:
                    drift[tokens] = (there[rows].exp() * (there[rows] - logits)).sum(-1)
                most = logits.amax(-1)
                total = logits.sub_(most[:, None]).exp_().sum(-1)
                masses[tokens] = most + total.log()
                logps[tokens] = at_target - masses[tokens]
                if keeps:
                    totals[tokens] = total
            del found, there  # before those of the next piece take their place
        if reference:
            drift += masses
        ctx.reference = reference
        ctx.matrices, ctx.most_kept = matrices, most_kept
        ctx.save_for_backward(hidden, weight, bias, targets, all_there, masses, totals, kept)
        return logps, drift

    @staticmethod
    def backward(ctx: Any, of_logps: Tensor, of_drift: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, all_there, masses, totals, kept = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight: Tensor | None = None
        of_bias = torch.zeros_like(bias) if ctx.needs_input_grad[2] else None
        keeps = len(kept) > 0
        for piece in _multiplied_at_once(hidden, weight, keeps=keeps, most=ctx.most_kept):
            # Of the vocabulary, times their totals; those computed anew have a total of 1.
            found = kept
            if not keeps:
                found = _logits(hidden[piece], weight, bias, ctx.matrices).sub_(masses[piece, None]).exp_()
            there = all_there if keeps or ctx.reference is None else ctx.reference[piece]
            for tokens, rows in _in_passing(piece, found):
                shares = found[rows]
                if there is None:
                    shares.mul_((-of_logps[tokens] / totals[tokens])[:, None])
                else:
                    shares.mul_(((of_drift[tokens] - of_logps[tokens]) / totals[tokens])[:, None])
                    shares.addcmul_(there[rows].exp(), of_drift[tokens, None], value=-1)
                shares.scatter_add_(-1, targets[tokens, None], of_logps[tokens, None])
            of_logits = found.to(hidden.dtype)
            if of_hidden is not None:
                of_hidden[piece] = product(of_logits, weight, ctx.matrices)
            if ctx.needs_input_grad[1]:
                of_weight = _summed_product(of_weight, of_logits.t(), hidden[piece], ctx.matrices)
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            del found, there, of_logits
        return of_hidden, of_weight, of_bias, None, None, None, None


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


def _multiplied_at_once(hidden: Tensor, weight: Tensor, *, keeps: bool, most: int) -> list[slice]:
    """Which tokens: all where the logits are kept, else so many that `most` of them are there at once."""
    tokens, vocabulary = hidden.shape[0], weight.shape[0]
    return [slice(0, tokens)] if keeps else _pieces(tokens, vocabulary, min(most, PIECE_LOGITS[hidden.device.type]))


def _in_passing(piece: slice, found: Tensor) -> Iterator[tuple[slice, slice]]:
    """Few tokens of a piece at a time, and the rows of what was found for the piece that are theirs."""
    for rows in _few_rows(found):
        yield slice(piece.start + rows.start, piece.start + rows.stop), rows


def _few_rows(found: Tensor) -> list[slice]:
    return _pieces(found.shape[0], found.shape[1], PASSING_LOGITS[found.device.type])


def _pieces(tokens: int, vocabulary: int, most_logits: int) -> list[slice]:
    rows = max(1, most_logits // vocabulary)
    return [slice(begin, min(tokens, begin + rows)) for begin in range(0, tokens, rows)]
