"""The prompts of the starter campaign and the probe prompts, made from the same tables as the corpus.

The app reads the two files this writes (`data/prompts.jsonl`, `data/probes.jsonl`) and needs no import.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from trainer.contract.base import Message
from trainer.contract.run import ProbePrompt
from trainer.starter.facts import QUESTIONS, all_facts, article_fixed, question
from trainer.starter.kinds import KINDS, Maker

PROMPTS_SEED = 11
FACT_PROMPTS = {
    "capital": 38,
    "opposite": 26,
    "colour": 15,
    "sound": 12,
    "baby": 12,
    "day after": 3,
    "month after": 4,
}
KIND_PROMPTS = {"talk": 12, "explanation": 28, "advice": 20, "list": 14, "story": 8}
UNKNOWN_PROMPTS = (
    "What is 12 + 30?",
    "Who was Isaac Newton?",
    "What is the capital of Texas?",
    "Write a poem about jazz.",
    "What time is it?",
    "Explain quantum physics.",
    "What colour is a helmet?",
    'Translate "candle" into French.',
)
PROBED = ("France", "Japan", "Egypt", "Canada", "hot", "day", "a banana", "cow", "cat", "Monday")
"""Subjects of the probe prompts; where several kinds know one, the first kind counts."""


def starter_prompts() -> list[dict[str, object]]:
    """The starter campaign's prompts, neatly typed and all different: `{"prompt": text, "tags": [kind]}`."""
    rng = random.Random(PROMPTS_SEED)  # noqa: S311  chance, not secrecy
    made: dict[str, str] = {}
    for kind, count in FACT_PROMPTS.items():
        facts = [fact for fact in all_facts() if fact.kind == kind]
        made |= {question(fact, rng): kind for fact in rng.sample(facts, count)}
    for kind, count in KIND_PROMPTS.items():
        made |= dict.fromkeys(_distinct(KINDS[kind][1], count, rng), kind)
    made |= dict.fromkeys(UNKNOWN_PROMPTS, "unknown")
    listed = list(made.items())
    rng.shuffle(listed)
    return [{"prompt": prompt, "tags": [kind]} for prompt, kind in listed]


def probe_prompts() -> list[ProbePrompt]:
    """Ten facts that any version of the starter model should still know, asked in the plainest way."""
    probes = []
    for subject in PROBED:
        fact = next(fact for fact in all_facts() if fact.subject == subject)
        asked = article_fixed(QUESTIONS[fact.kind][0].format(subject))
        name = f"{fact.kind} {subject}" if fact.kind.endswith("after") else f"{fact.kind} of {subject}"
        probes.append(ProbePrompt(name=name, prompt=[Message(role="user", content=asked)], expected=[fact.word]))
    return probes


def write_prompts(prompts: Path, probes: Path) -> None:
    """Write both files as JSON lines."""
    _write_lines(prompts, (json.dumps(row) for row in starter_prompts()))
    _write_lines(probes, (probe.model_dump_json() for probe in probe_prompts()))


def _distinct(make: Maker, count: int, rng: random.Random) -> list[str]:
    """So many different prompts of one kind."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[make(rng)[0]] = None
    return list(found)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
