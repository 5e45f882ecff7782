"""Drawing completions of many prompts at once, for evaluation.

Each sample's random numbers come from its own seed and are drawn before its first token, so two versions
given the same seeds get the same luck: what differs between their samples is what training changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from trainer.errors import NotNumbersError
from trainer.logps import vocabulary_size
from trainer.memory import Limits
from trainer.packing import runs_that_fit
from trainer.serving.sampling import choice_seed, draw_tokens, uniforms

ROWS_PER_BATCH = 256
"""Most that are drawn at once, however much memory there is."""


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
    limits: Limits | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> list[list[list[int]]]:
    """For each prompt (token ids) its completions as token ids, the end token included where one was drawn.

    `on_progress` is told the share done (0 to 1) after every batch. No prompt may be empty, nor exceed the
    model's context together with `drawing.max_tokens`. Raises NotNumbersError where the model computes NaN.
    """
    completions: list[list[list[int]]] = [[] for _ in prompts]
    rows = [
        _Row(index, tuple(prompt), choice_seed(_prompt_seed(drawing.seed, index), copy))
        for index, prompt in enumerate(prompts)
        for copy in range(drawing.copies)
    ]
    limits = limits or Limits()
    rows.sort(key=lambda row: -len(row.prompt))
    most_rows = min(ROWS_PER_BATCH, limits.drawn_logits // vocabulary_size(model))

    def fits(batch: list[_Row]) -> bool:
        width = len(batch[0].prompt) + drawing.max_tokens
        return len(batch) <= most_rows and len(batch) * width <= limits.drawn_tokens

    done = 0
    for batch in runs_that_fit(rows, fits):
        for row, token_ids in zip(batch, _decode(model, batch, drawing, end_ids), strict=True):
            completions[row.index].append(token_ids)
        done += len(batch)
        on_progress(done / len(rows))
    return completions


@dataclass(frozen=True)
class _Row:
    """One completion to draw: of which prompt, and the seed of its random numbers."""

    index: int
    prompt: tuple[int, ...]
    seed: int


def _prompt_seed(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:6], "big")


def _decode(model: PreTrainedModel, rows: list[_Row], drawing: Drawing, end_ids: set[int]) -> list[list[int]]:
    """One batch, a token at a time; a row that has ended leaves it."""
    prompts = [row.prompt for row in rows]
    completions: list[list[int]] = [[] for _ in prompts]
    numbers = torch.stack([uniforms(row.seed, drawing.max_tokens) for row in rows]).to(model.device)
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


def _padded_on_the_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
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
