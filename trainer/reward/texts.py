"""Rewards of texts that another model wrote: of the fresh samples of a run, before and after its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_token_ids
from trainer.contract.base import Message
from trainer.contract.report import Sample
from trainer.contract.run import RunRequest
from trainer.evaluate import Examination, Measured
from trainer.groups import accepted_prompt
from trainer.memory import Limits
from trainer.models import context_tokens, verify_model
from trainer.packing import Tokens
from trainer.reward.model import load_reward_model
from trainer.reward.scoring import RewardScorer, fitting_reward_scorer

Written = tuple[Sequence[Message], str]
"""A prompt and a text written for it."""


@dataclass(frozen=True)
class RewardModel:
    """A reward model with the tokenizer that it reads by."""

    scorer: RewardScorer
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, folder: Path, limits: Limits) -> RewardModel:
        """The one in a verified folder. Raises ModelError."""
        model, tokenizer = load_reward_model(folder)
        scorer = fitting_reward_scorer(model)
        scorer.limits = limits
        return cls(scorer, tokenizer)

    @torch.no_grad()
    def rewards(self, written: Sequence[Written]) -> list[float | None]:
        """The reward of each text, read as a judged completion is; None where the model cannot read it whole."""
        read = [self._tokens(messages, text) for messages, text in written]
        known = [tokens for tokens in read if tokens is not None]
        of_known = dict(zip(known, self.scorer.sequence_logps(known), strict=True))
        return [None if tokens is None else of_known[tokens] for tokens in read]

    def _tokens(self, messages: Sequence[Message], text: str) -> Tokens | None:
        prompt = accepted_prompt(self.tokenizer, tuple(messages))
        completion = tuple(completion_token_ids(self.tokenizer, text))
        if not prompt or not completion or len(prompt) + len(completion) > context_tokens(self.scorer.model):
            return None
        return Tokens(prompt, completion)


def rewarded(measured: Measured, exam: Examination, limits: Limits) -> Measured:
    """What was measured, with the rewards of its samples by the reward model of the request, if that names one."""
    reference = exam.request.reward_model
    if reference is None:
        return measured
    return with_rewards(measured, exam, RewardModel.of(verify_model(reference), limits))


def verified_reward_model(request: RunRequest) -> dict[str, str]:
    """The hash of the reward model that a request names, for the report; nothing where it names none.

    Raises ModelError where that is not there as it was: before any work goes into the run.
    """
    if request.reward_model is None:
        return {}
    verify_model(request.reward_model)
    return {"reward_model": request.reward_model.sha256}


def with_rewards(measured: Measured, exam: Examination, model: RewardModel) -> Measured:
    """What was measured, with the reward of every sample and their mean."""
    written: list[Written] = [
        (prompt.messages, sample.text)
        for prompt, samples in zip(exam.prompts, measured.samples, strict=True)
        for sample in samples
    ]
    rewards = iter(model.rewards(written))
    samples: list[list[Sample]] = [
        [sample.model_copy(update={"reward": next(rewards)}) for sample in each] for each in measured.samples
    ]
    known = [sample.reward for each in samples for sample in each if sample.reward is not None]
    behaviour = measured.results.behaviour.model_copy(update={"reward": fmean(known) if known else None})
    results = measured.results.model_copy(update={"behaviour": behaviour})
    return measured.model_copy(update={"results": results, "samples": samples})
