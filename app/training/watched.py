"""What a model wrote while it was trained: per prompt before, and at each evaluation since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.contract.base import Message
from trainer.contract.watching import WatchedSample, WatchedSamples


@dataclass(frozen=True)
class WatchedRow:
    """One prompt: what the start wrote, and what each later evaluation did, in the order of `Watched.steps`."""

    prompt_id: str
    prompt: list[Message]
    before: list[WatchedSample]
    since: list[list[WatchedSample]]


@dataclass(frozen=True)
class Watched:
    """All of it, as the page shows it. `steps` are those of the evaluations after the start."""

    steps: list[int]
    rows: list[WatchedRow]
    hidden: int
    """Prompts of campaigns in which this person has no part."""


def evaluations_of(samples: Sequence[Any]) -> list[WatchedSamples]:
    """What a run keeps of its samples, in order of steps."""
    return sorted((WatchedSamples.model_validate(each) for each in samples), key=lambda each: each.step)


def watched_of(evaluations: Sequence[WatchedSamples], *, visible: set[str]) -> Watched | None:
    """The samples of the prompts that may be seen; None where none was asked."""
    prompts = {prompt.prompt_id: prompt.prompt for each in evaluations for prompt in each.prompts}
    texts = [{prompt.prompt_id: prompt.samples for prompt in each.prompts} for each in evaluations]
    start = texts[0] if evaluations and evaluations[0].step == 0 else {}
    later = [(each.step, of) for each, of in zip(evaluations, texts, strict=True) if each.step > 0]
    rows = [
        WatchedRow(name, prompt, before=start.get(name, []), since=[of.get(name, []) for _step, of in later])
        for name, prompt in prompts.items()
        if name in visible
    ]
    if not prompts:
        return None
    return Watched(steps=[step for step, _of in later], rows=rows, hidden=len(prompts) - len(rows))
