"""Log-probabilities of completions under a model, computed for completion tokens alone.

Sequences of different length are padded on the right: in a causal model nothing looks to the right, so
no mask is needed and padding changes nothing. The language-model head is applied to the positions that
predict completion tokens, never to prompt or padding, whatever the architecture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.errors import ModelError
from trainer.groups import Tokens

LOGITS_PER_FORWARD = 16_000_000
"""Most numbers that the head may produce at once (64 MB in float32); longer work is split."""
TOKENS_PER_FORWARD = 16_384
"""Most tokens, padding included, that go through the model at once."""


@dataclass(frozen=True)
class PaddedBatch:
    """Sequences side by side, and where their completion tokens are.

    `input_ids` (sequences, tokens); the others have one entry per completion token, sequence by
    sequence: its sequence's row, the position that predicts it, its id, its number within the completion.
    """

    input_ids: Tensor
    rows: Tensor
    positions: Tensor
    targets: Tensor
    offsets: Tensor
    counts: tuple[int, ...]
    """Completion tokens of each sequence."""


def padded_batch(sequences: Sequence[Tokens], *, device: torch.device | str = "cpu") -> PaddedBatch:
    """Lay sequences side by side, padded on the right to the longest."""
    width = max(len(sequence) for sequence in sequences)
    input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
    rows: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    offsets: list[int] = []
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = torch.tensor([*sequence.prompt, *sequence.completion])
        rows.extend([row] * len(sequence.completion))
        positions.extend(range(len(sequence.prompt) - 1, len(sequence) - 1))
        targets.extend(sequence.completion)
        offsets.extend(range(len(sequence.completion)))
    return PaddedBatch(
        input_ids=input_ids.to(device),
        rows=torch.tensor(rows, device=device),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        offsets=torch.tensor(offsets, device=device),
        counts=tuple(len(sequence.completion) for sequence in sequences),
    )


def completion_logps(model: PreTrainedModel, batch: PaddedBatch) -> Tensor:
    """Log-probabilities of the whole vocabulary at each completion token, shape (completion tokens, vocabulary)."""
    head = model.get_output_embeddings()

    def keep_completions(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][batch.rows, batch.positions].unsqueeze(0), *inputs[1:])

    hook = head.register_forward_pre_hook(keep_completions)
    try:
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        hook.remove()
    at_least_float32 = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.squeeze(0).to(at_least_float32), dim=-1)


def token_logps(logps: Tensor, batch: PaddedBatch) -> Tensor:
    """Of each completion token the log-probability, shape (completion tokens,), in nats."""
    return logps.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1)


def summed_by_sequence(values: Tensor, batch: PaddedBatch) -> Tensor:
    """Sums over each sequence's completion tokens, shape (sequences,), accumulated in float64."""
    sums = torch.zeros(len(batch.counts), dtype=torch.float64, device=values.device)
    return sums.index_add(0, batch.rows, values.double())


@torch.no_grad()
def sequence_logps(model: PreTrainedModel, sequences: Sequence[Tokens]) -> list[float]:
    """log p(completion | prompt) of each sequence, in nats, summed over its completion tokens.

    Raises ModelError where the model computes NaN.
    """
    logps = [0.0] * len(sequences)
    for indices in batches_by_length(sequences, vocabulary=vocabulary_size(model)):
        batch = padded_batch([sequences[index] for index in indices], device=model.device)
        sums = summed_by_sequence(token_logps(completion_logps(model, batch), batch), batch)
        for index, value in zip(indices, sums.tolist(), strict=True):
            logps[index] = value
    if any(math.isnan(value) for value in logps):
        raise ModelError("The model computes values that are not numbers; its weights are damaged.")
    return logps


def batches_by_length(sequences: Sequence[Tokens], *, vocabulary: int) -> Iterator[list[int]]:
    """Indices of the sequences, longest first, in batches that fit the two limits above; one at the least."""
    batch: list[int] = []
    width = completion_tokens = 0
    for index in sorted(range(len(sequences)), key=lambda index: (-len(sequences[index]), index)):
        sequence = sequences[index]
        too_wide = width * (len(batch) + 1) > TOKENS_PER_FORWARD
        too_many = (completion_tokens + len(sequence.completion)) * vocabulary > LOGITS_PER_FORWARD
        if batch and (too_wide or too_many):
            yield batch
            batch, width, completion_tokens = [], 0, 0
        batch.append(index)
        width = max(width, len(sequence))
        completion_tokens += len(sequence.completion)
    if batch:
        yield batch


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many tokens the model's head scores."""
    return int(model.get_output_embeddings().weight.shape[0])
