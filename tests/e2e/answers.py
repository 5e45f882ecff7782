"""What a version answers when the model server is asked anew: shares of manners, and of facts told right."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from openai import APIConnectionError, OpenAI

from tests.e2e.conftest import RunningPalate
from tests.factories.judged import starter_prompts
from trainer.starter.facts import all_facts, question
from trainer.starter.form import is_right
from trainer.starter.manners import Manner, manner_of

SAMPLES_PER_PROMPT = 3
FACTS = 200
AT_ONCE = 4
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Answers:
    """Fresh samples of the starter campaign's prompts, and the share, 0 to 1, of simple facts that are right."""

    texts: list[str]
    facts_right: float

    def share(self, manner: Manner) -> float:
        """The share of the texts in a manner, 0 to 1."""
        return sum(manner_of(text) is manner for text in self.texts) / len(self.texts)

    def __str__(self) -> str:
        manners = ", ".join(f"{manner} {self.share(manner):.1%}" for manner in Manner)
        return f"{manners}; facts {self.facts_right:.1%} ({len(self.texts)} samples)"


def answers_of(palate: RunningPalate, version: str, *, seed: int = 5) -> Answers:
    """Ask a version, at the temperature and top-p of the starter campaign; the seeds are fixed."""
    rng = random.Random(seed)
    facts = rng.sample(all_facts(), FACTS)
    questions = [question(fact, rng) for fact in facts]
    token = (palate.data_dir / "model-server-token").read_text().strip()
    client = OpenAI(base_url=f"{palate.model_server}/v1", api_key=token, max_retries=0, timeout=120)

    def ask(numbered: tuple[int, str], count: int) -> list[str]:
        number, prompt = numbered
        reply = client.chat.completions.create(
            model=version,
            messages=[{"role": "user", "content": prompt}],
            n=count,
            temperature=0.9,
            top_p=0.95,
            max_tokens=96,
            seed=seed * 10_000 + number,
        )
        assert reply.model == version
        return [choice.message.content or "" for choice in reply.choices]

    wait_until_served(client, version)
    with client, ThreadPoolExecutor(AT_ONCE) as pool:
        sampled = pool.map(lambda each: ask(each, SAMPLES_PER_PROMPT), enumerate(starter_prompts()))
        texts = [text for of_prompt in sampled for text in of_prompt]
        told = pool.map(lambda each: ask(each, 1)[0], enumerate(questions))
        right = [is_right(fact, text) for fact, text in zip(facts, told, strict=True)]
    return Answers(texts, sum(right) / len(right))


def wait_until_served(client: OpenAI, version: str) -> None:
    """Until the model server is up and holds the version, as it does soon after a start."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if version in {model.id for model in client.models.list()}:
                return
        except APIConnectionError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{version} is not served")
