"""Drawing completions of many prompts at once, for evaluation.

Each sample's random numbers come from its own seed and are drawn before its first token, so two versions
given the same seeds get the same luck: what differs between their samples is what training changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trainer.errors import NotNumbersError
from trainer.logps import vocabulary_size
from trainer.serving.sampling import choice_seed, draw_tokens, uniforms

ROWS_PER_BATCH = 256
LOGITS_PER_STEP = 16_000_000
TOKENS_PER_BATCH = 65_536
"""Bound what a step may hold at once: logits, and in the cache rows times (prompt and new tokens)."""


@dataclass(frozen=True)
class Drawing:
    """How completions are drawn. Temperature 0 is greedy; `copies` is how many each prompt gets."""

    copies: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@torch.no_grad()
def draw_completions(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
    *,
    end_ids: set[int],
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[list[list[int]]]:
    """For each prompt (token ids) its completions as token ids, the end token included where one was drawn.

    `on_progress` is told the share done (0 to 1) after every batch. No prompt may be empty, nor exceed the
    model's context together with `drawing.max_tokens`. Raises NotNumbersError where the model computes NaN.
    """
    completions: list[list[list[int]]] = [[] for _ in prompts]
    done = 0
    for indices in _batches(prompts, drawing, vocabulary=vocabulary_size(model)):
        rows = [(index, copy) for index in indices for copy in range(drawing.copies)]
        seeds = [choice_seed(_prompt_seed(drawing.seed, index), copy) for index, copy in rows]
        drawn = _decode(model, [prompts[index] for index, _ in rows], seeds, drawing, end_ids)
        for (index, _), token_ids in zip(rows, drawn, strict=True):
            completions[index].append(token_ids)
        done += len(indices)
        on_progress(done / len(prompts))
    return completions


def _batches(prompts: Sequence[Sequence[int]], drawing: Drawing, *, vocabulary: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, in batches that fit the limits; one prompt at the least."""
    most_rows = min(ROWS_PER_BATCH, LOGITS_PER_STEP // vocabulary)
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index)):
        rows = (len(batch) + 1) * drawing.copies
        if batch and (rows > most_rows or rows * width > TOKENS_PER_BATCH):
            yield batch
            batch = []
        if not batch:
            width = len(prompts[index]) + drawing.max_tokens
        batch.append(index)
    if batch:
        yield batch


def _prompt_seed(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:6], "big")


def _decode(
    model: PreTrainedModel, prompts: list[Sequence[int]], seeds: list[int], drawing: Drawing, end_ids: set[int]
) -> list[list[int]]:
    """One batch, a token at a time; a row that has ended leaves it."""
    completions: list[list[int]] = [[] for _ in prompts]
    numbers = torch.stack([uniforms(seed, drawing.max_tokens) for seed in seeds]).to(model.device)
    token_ids, mask = _padded_on_the_left(prompts, model.device)
    cache = DynamicCache(config=model.config)
    alive = torch.arange(len(prompts), device=model.device)
    for position in range(drawing.max_tokens):
        logits = _next_logits(model, token_ids, mask, cache)
        drawn = draw_tokens(
            logits, numbers[alive, position], temperature=drawing.temperature, top_p=drawing.top_p
        ).tolist()
        for row, token in zip(alive.tolist(), drawn, strict=True):
            completions[row].append(token)
        kept = torch.tensor([i for i, token in enumerate(drawn) if token not in end_ids], device=model.device).long()
        if not len(kept):
            break
        if len(kept) < len(alive):
            alive, mask = alive[kept], mask[kept]
            cache.batch_select_indices(kept)
        token_ids = torch.tensor(drawn, device=model.device)[kept].unsqueeze(-1)
        mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=-1)
    return completions


def _padded_on_the_left(prompts: list[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) for prompt in prompts)
    token_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return token_ids.to(device), mask.to(device)


def _next_logits(model: PreTrainedModel, token_ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """Logits of the next token, shape (rows, vocabulary); `mask` covers what the cache holds and `token_ids`."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -token_ids.shape[1] :]
    output: Any = model(
        input_ids=token_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    if bool(torch.isnan(logits).any()):
        raise NotNumbersError
    return logits
