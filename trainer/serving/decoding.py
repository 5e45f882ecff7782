"""One request being decoded: its prompt once, then all of its choices in one batch, a token at a time.

The prompt is computed for a single row and its cache repeated; a choice that has ended leaves the batch.
Requests are never mixed into one batch, so what a request gets does not depend on its neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from trainer.chat import completion_text
from trainer.serving.errors import BrokenModelError
from trainer.serving.sampling import choice_seed, draw_tokens, uniforms

StoppedBy = Literal["end_token", "stop_string", "max_tokens"]


@dataclass(frozen=True)
class Sampling:
    """How a request wants its choices drawn."""

    choices: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()


@dataclass
class Choice:
    """One completion as it grows.

    `token_ids` are all tokens drawn, the end token or the one that completed a stop string included; `text`
    is without either. `seconds` runs from the request's first turn to this choice's last token.
    """

    seed: int
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    stopped_by: StoppedBy | None = None
    seconds: float = 0.0


class Decoding:
    """Decodes one prompt into `sampling.choices` completions; call `advance` until it says that all have ended.

    `prompt_ids` must not be empty, and with `sampling.max_tokens` must fit the model's context.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt_ids: Sequence[int],
        end_ids: frozenset[int],
        sampling: Sampling,
    ) -> None:
        self.choices = [Choice(choice_seed(sampling.seed, index)) for index in range(sampling.choices)]
        self._model = model
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._sampling = sampling
        self._started = time.monotonic()
        self._alive = list(range(sampling.choices))
        """The choices still growing, in the order of the batch's rows."""
        self._numbers = torch.stack([uniforms(choice.seed, sampling.max_tokens) for choice in self.choices])
        self._numbers = self._numbers.to(model.device)
        self._cache = DynamicCache(config=model.config)
        logits = self._forward(torch.tensor([list(prompt_ids)], device=model.device))
        self._cache.reorder_cache(torch.zeros(sampling.choices, dtype=torch.long, device=model.device))
        self._logits = logits.expand(sampling.choices, -1)
        self._position = 0

    def advance(self, tokens: int) -> bool:
        """Draw up to `tokens` more tokens for every choice still growing; True when none is left."""
        for _ in range(tokens):
            if self._alive:
                self._step()
        return not self._alive

    def _step(self) -> None:
        drawn = draw_tokens(
            self._logits,
            self._numbers[self._alive, self._position],
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
        )
        self._position += 1
        rows = [
            row
            for row, (index, token) in enumerate(zip(self._alive, drawn.tolist(), strict=True))
            if not self._take(self.choices[index], token)
        ]
        if len(rows) < len(self._alive):
            self._alive = [self._alive[row] for row in rows]
            kept = torch.tensor(rows, dtype=torch.long, device=drawn.device)
            drawn = drawn[kept]
            if rows:
                self._cache.reorder_cache(kept)
        if rows:
            self._logits = self._forward(drawn[:, None])

    def _forward(self, token_ids: Tensor) -> Tensor:
        """Logits after the last of `token_ids` (rows, tokens), shape (rows, vocabulary); the cache grows by them."""
        output: Any = self._model(input_ids=token_ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1]
        if not bool((logits < torch.inf).all()):  # false for a NaN, too
            raise BrokenModelError("The model computes values that are not numbers; its weights are damaged.")
        return logits

    def _take(self, choice: Choice, token: int) -> bool:
        """Add a token to a choice; True when that ends it."""
        choice.token_ids.append(token)
        if token in self._end_ids:
            return self._end(choice, "end_token", completion_text(self._tokenizer, choice.token_ids[:-1]))
        if self._sampling.stop and (text := self._text_before_stop(choice)) is not None:
            return self._end(choice, "stop_string", text)
        if len(choice.token_ids) == self._sampling.max_tokens:
            return self._end(choice, "max_tokens", completion_text(self._tokenizer, choice.token_ids))
        return False

    def _end(self, choice: Choice, stopped_by: StoppedBy, text: str) -> bool:
        # A character whose last bytes were never drawn decodes to replacement characters at the end.
        choice.text = text.rstrip("\ufffd")
        choice.stopped_by = stopped_by
        choice.seconds = time.monotonic() - self._started
        return True

    def _text_before_stop(self, choice: Choice) -> str | None:
        """The text up to the earliest stop string, or None where it holds none.

        The whole text is decoded only where its tail, long enough for any stop string, holds one.
        """
        stops = self._sampling.stop
        reach = max(len(stop.encode()) for stop in stops) + 8
        tail = completion_text(self._tokenizer, choice.token_ids[-reach:])
        if not any(stop in tail for stop in stops):
            return None
        text = completion_text(self._tokenizer, choice.token_ids)
        found = [position for stop in stops if (position := text.find(stop)) >= 0]
        return text[: min(found)] if found else None
