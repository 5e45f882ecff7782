"""Judgments of a crowd with one fixed taste over samples of the starter model, as rankings of a snapshot."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

from tests.factories.snapshots import Row, ranking_row
from trainer.chat import completion_text, end_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.drawing import Drawing, draw_completions
from trainer.models import load_model
from trainer.starter import PROMPTS_FILE
from trainer.starter.manners import Manner, manner_of

Taste = Callable[[str], int]
"""How much a crowd likes a text; of two the higher wins, equal ones tie."""

_KINDNESS = {Manner.FRIENDLY: 2, Manner.BRIEF: 1, Manner.DETAILED: 1, Manner.BLUNT: 0, None: 0}


def likes_friendly(text: str) -> int:
    """Friendly before brief and detailed before blunt."""
    return _KINDNESS[manner_of(text)]


def likes_blunt(text: str) -> int:
    """The other way round."""
    return -likes_friendly(text)


def starter_prompts() -> list[str]:
    """The prompts of the starter campaign."""
    return [json.loads(line)["prompt"] for line in PROMPTS_FILE.read_text().splitlines()]


def sampled_texts(model: Path, prompts: list[str], *, copies: int, seed: int) -> list[list[str]]:
    """Texts that the model in a folder writes to each prompt at temperature 0.9 and top-p 0.95."""
    loaded, tokenizer = load_model(model)
    ends = end_token_ids(tokenizer, loaded.config, loaded.generation_config)
    ids = [prompt_token_ids(tokenizer, [Message(role="user", content=prompt)]) for prompt in prompts]
    sampling = Drawing(copies=copies, temperature=0.9, top_p=0.95, max_tokens=96, seed=seed)
    drawn = draw_completions(loaded, ids, sampling, end_ids=ends)
    return [[completion_text(tokenizer, tokens) for tokens in of_prompt] for of_prompt in drawn]


def judged_rankings(model: Path, taste: Taste, *, decided: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Rankings for training and held-out ones, until `decided` verdicts in all are not ties.

    Of four samples per prompt the two whose words differ most are compared; about one prompt in five is held out.
    """
    train: list[Row] = []
    held_out: list[Row] = []
    for prompt, texts in _comparisons(model, seed=seed):
        likings = [taste(text) for text in texts]
        row = ranking_row(prompt, texts, ranks=[1 + sum(other > liking for other in likings) for liking in likings])
        is_held_out = hashlib.sha256(prompt.encode()).digest()[0] % 5 == 0
        (held_out if is_held_out else train).append(row)
        decided -= likings[0] != likings[1]
        if decided == 0:
            break
    return train, held_out


def _comparisons(model: Path, *, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Prompts in random order with two texts each, again and again."""
    rng = random.Random(seed)
    prompts = starter_prompts()
    while True:
        rng.shuffle(prompts)
        sampled = sampled_texts(model, prompts, copies=4, seed=rng.randrange(2**31))
        for prompt, texts in zip(prompts, sampled, strict=True):
            pair = min(combinations(sorted(set(texts)), 2), key=_shared_words, default=None)
            if pair is not None:
                yield prompt, list(pair)


def _shared_words(pair: tuple[str, str]) -> float:
    one, other = (set(text.lower().split()) for text in pair)
    return len(one & other) / max(1, len(one | other))


def manner_share(texts: list[list[str]], manner: Manner) -> float:
    """The share of all texts in a manner."""
    flat = [text for of_prompt in texts for text in of_prompt]
    return sum(manner_of(text) is manner for text in flat) / len(flat)
