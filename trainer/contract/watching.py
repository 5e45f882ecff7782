"""`samples.jsonl` of the run folder: what the policy writes while it is trained."""

from __future__ import annotations

from datetime import datetime

from trainer.contract.base import Contract, Messages


class WatchedSample(Contract):
    """One completion drawn during training. `tokens` without the one that ends it."""

    text: str
    tokens: int
    finished: bool
    """Whether it ended by itself rather than at the token limit."""
    malformed: bool


class WatchedPrompt(Contract):
    """A prompt and what the policy wrote for it, drawn with the same random numbers at every evaluation."""

    prompt_id: str
    prompt: Messages
    samples: list[WatchedSample]


class WatchedSamples(Contract):
    """One line of `samples.jsonl`: an evaluation, step 0 being the start. After a resume a step's last line counts."""

    at: datetime
    step: int
    prompts: list[WatchedPrompt]
