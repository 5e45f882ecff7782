"""Completions that people wrote, as groups of one: what supervised fine-tuning trains on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_token_ids
from trainer.groups import Group, accepted_prompt
from trainer.rankings import Verdict
from trainer.snapshot import Demonstration


def demonstration_groups(
    demonstrations: Sequence[Demonstration], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
) -> tuple[list[Group], Counter[str]]:
    """A group of one completion for each demonstration, and how many were left out as `demonstration`.

    It weighs by its tokens over their mean, so that every token of all demonstrations counts the same.
    """
    found: list[Group] = []
    for each in demonstrations:
        prompt = accepted_prompt(tokenizer, each.prompt)
        completion = tuple(completion_token_ids(tokenizer, each.text)) if each.text.strip() else ()
        if prompt and completion and len(prompt) + len(completion) <= max_tokens:
            verdict = Verdict(ranks=(1,), heights=(0,), weight=float(len(completion)))
            found.append(Group(each.prompt_id, prompt, (each.completion_id,), (completion,), (verdict,)))
    dropped = Counter({"demonstration": len(demonstrations) - len(found)})
    if not found:
        return [], +dropped
    usual = sum(group.weight for group in found) / len(found)
    return [_weighing(group, group.weight / usual) for group in found], +dropped


def _weighing(group: Group, weight: float) -> Group:
    return replace(group, verdicts=(replace(group.verdicts[0], weight=weight),))
