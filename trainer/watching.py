"""What the policy writes while it is trained: a few prompts, drawn at every evaluation for people to watch.

The prompts are the first of those that the start was measured on, with the same random numbers, so that what changes
from one evaluation to the next is what training changed. Drawing uses generators of its own and leaves the policy as it
was: a run ends with the same bits whether anyone watches or not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from trainer.behaviour import behaviour_of
from trainer.chat import end_token_ids
from trainer.contract.report import Sample
from trainer.contract.run import SAMPLES_FILE
from trainer.contract.watching import WatchedPrompt, WatchedSample, WatchedSamples
from trainer.drawing import Drawing, draw_completions
from trainer.evaluate import Examination, sample_of
from trainer.logps import Scorer
from trainer.packing import Tokens, trees_of
from trainer.record import mend_last_line

log = logging.getLogger(__name__)

COPIES = 2
"""Samples of each prompt: one would not show whether they are all the same."""


class Watcher:
    """Draws the watched samples, writes them to `samples.jsonl`, and keeps within its share of the time.

    `training_seconds` tells how long training has taken so far, drawing included.
    """

    def __init__(
        self,
        folder: Path,
        exam: Examination,
        *,
        policy: Scorer,
        reference: Scorer,
        tokenizer: PreTrainedTokenizerBase,
        training_seconds: Callable[[], float],
    ) -> None:
        sampling = exam.request.sampling
        self._path = folder / SAMPLES_FILE
        self._prompts = exam.prompts[: sampling.watched_prompts]
        self._policy, self._reference, self._tokenizer = policy, reference, tokenizer
        self._drawing = Drawing(
            copies=min(COPIES, sampling.samples_per_prompt),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.watched_max_tokens, sampling.max_tokens),
            seed=exam.request.seed,
        )
        self._share = sampling.watched_share
        self._training_seconds = training_seconds
        self._spent_seconds = 0.0
        mend_last_line(self._path)

    def look_at_the_start(self) -> dict[str, float]:
        """The figures of the policy before training, as step 0."""
        figures = self._look(0)
        self._spent_seconds = 0.0
        return figures

    def look(self, step: int, is_last: bool) -> dict[str, float]:
        """The figures of the policy after a step; none where nothing is watched, or there is no time for it."""
        if not is_last and self._spent_seconds > self._share * self._training_seconds():
            log.info("No samples are drawn at step %s: they have taken their share of the time.", step)
            return {}
        return self._look(step)

    def _look(self, step: int) -> dict[str, float]:
        if not self._prompts:
            return {}
        began = time.monotonic()
        model = self._policy.model
        end_ids = end_token_ids(self._tokenizer, model.config, model.generation_config)
        drawn = draw_completions(
            model,
            [prompt.token_ids for prompt in self._prompts],
            self._drawing,
            end_ids=end_ids,
            limits=self._policy.limits,
        )
        sequences = [
            Tokens(prompt.token_ids, tuple(token_ids))
            for prompt, completions in zip(self._prompts, drawn, strict=True)
            for token_ids in completions
        ]
        samples = [[sample_of(self._tokenizer, ids, end_ids, drift=0.0) for ids in of_prompt] for of_prompt in drawn]
        figures = {**sample_figures(samples), "sample_kl": kl_per_token(self._policy, self._reference, sequences)}
        self._write(step, samples)
        self._spent_seconds += time.monotonic() - began
        return figures

    def _write(self, step: int, samples: Sequence[Sequence[Sample]]) -> None:
        line = WatchedSamples(
            at=datetime.now(UTC),
            step=step,
            prompts=[
                WatchedPrompt(
                    prompt_id=prompt.prompt_id,
                    prompt=list(prompt.messages),
                    samples=[
                        WatchedSample(text=s.text, tokens=s.tokens, finished=s.finished, malformed=s.malformed)
                        for s in written
                    ],
                )
                for prompt, written in zip(self._prompts, samples, strict=True)
            ],
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")


def sample_figures(samples: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """The `sample_*` figures of metrics but for the KL, of samples given per prompt."""
    behaviour = behaviour_of(samples)
    texts = [" ".join(sample.text.casefold().split()) for of_prompt in samples for sample in of_prompt]
    return {
        "sample_tokens": behaviour.mean_tokens,
        "sample_unfinished": behaviour.unfinished_share,
        "sample_repetition": behaviour.repetition,
        "sample_distinct": len(set(texts)) / len(texts),
    }


@torch.no_grad()
def kl_per_token(policy: Scorer, reference: Scorer, sequences: Sequence[Tokens]) -> float:
    """KL(policy || reference) in nats per token, averaged over the tokens of what the policy drew.

    At every token the sum over the vocabulary is exact; which tokens are met is chance, so for samples drawn by the
    policy's own probabilities this estimates the KL of whole completions without bias, and with less noise than
    log p - log p_reference at the drawn tokens alone.
    """
    total, tokens = 0.0, 0
    for trees in reference.in_parts(trees_of(sequences)):
        # A scorer's drift is KL(given || its own model).
        at_tokens = reference.score(trees, policy.distributions(trees)).drift
        total += float(at_tokens.double().sum())
        tokens += len(at_tokens)
    return round(max(0.0, total / tokens), 6)
