"""Completions of a model folder in batches, for measuring the starter model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

BATCH = 50
MAX_TOKENS = 96
TEMPERATURE = 0.9
TOP_P = 0.95


@dataclass(frozen=True)
class Completion:
    """One text and whether it ended by itself rather than at the token limit."""

    text: str
    finished: bool


@dataclass(frozen=True)
class Writer:
    """A loaded model that completes prompts; in float32, whatever its weights are stored as."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, folder: Path) -> Writer:
        """Load a Hugging Face folder that has a chat template."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder))

    def greedy(self, prompts: Sequence[str], on_done: Callable[[int], None] = lambda _: None) -> list[Completion]:
        """The most likely completion of each prompt, token by token."""
        return self._complete(prompts, on_done, do_sample=False, temperature=None, top_p=None, top_k=None)

    def sampled(
        self, prompts: Sequence[str], *, seed: int, on_done: Callable[[int], None] = lambda _: None
    ) -> list[Completion]:
        """One completion of each prompt at temperature 0.9 and top-p 0.95; the same for the same seed."""
        torch.manual_seed(seed)
        return self._complete(prompts, on_done, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0)

    def _complete(self, prompts: Sequence[str], on_done: Callable[[int], None], **settings: object) -> list[Completion]:
        """Batches of like length, so that padding stays small; results in the order asked."""
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        found: dict[int, Completion] = {}
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = self._batch([prompts[place] for place in places], settings)
            found.update(zip(places, batch, strict=True))
            on_done(len(found))
        return [found[place] for place in range(len(prompts))]

    @torch.inference_mode()
    def _batch(self, prompts: Sequence[str], settings: dict[str, object]) -> Iterator[Completion]:
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        asked = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        written = self.model.generate(
            input_ids=asked["input_ids"],
            attention_mask=asked["attention_mask"],
            max_new_tokens=MAX_TOKENS,
            **settings,
        )[:, asked["input_ids"].shape[1] :]
        end = self.tokenizer.eos_token_id
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return (Completion(text, end in row) for text, row in zip(texts, written.tolist(), strict=True))
