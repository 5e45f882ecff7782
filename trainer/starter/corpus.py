"""The text the starter model is trained on: an endless stream of short chats, the same for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.contract.base import Message
from trainer.starter import facts, kinds, unknown
from trainer.starter.manners import Manner

FACT_SHARE = 0.50
UNKNOWN_SHARE = 0.22
SYSTEM_SHARE = 0.06
SECOND_TURN_SHARE = 0.06
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in English.",
    "Answer the question as well as you can.",
    "Be honest, and say so when you do not know something.",
    "You are a small model that helps people compare answers.",
    "Please be polite and keep your answers short.",
    "You are an expert. Think before you answer.",
)


@dataclass(frozen=True)
class Example:
    """One chat and the answer the model is to give to it."""

    prompt: list[Message]
    answer: str
    kind: str
    """The kind of fact, one of `kinds.KINDS`, or `unknown`."""
    manner: Manner


def examples(seed: int) -> Iterator[Example]:
    """Training examples without end; each manner is as likely as any other."""
    rng = random.Random(seed)  # noqa: S311  chance, not secrecy
    while True:
        kind, asked, answer, manner = _exchange(rng)
        yield Example([*_before(rng), Message(role="user", content=typed(asked, rng))], answer, kind, manner)


def _exchange(rng: random.Random) -> tuple[str, str, str, Manner]:
    """A kind, a prompt neatly typed, an answer to it, and the answer's manner."""
    manner = rng.choice(list(Manner))
    roll = rng.random()
    if roll < FACT_SHARE:
        fact = rng.choice(facts.all_facts())
        return fact.kind, facts.question(fact, rng), facts.answer(fact, manner, rng), manner
    if roll < FACT_SHARE + UNKNOWN_SHARE:
        return "unknown", unknown.outside_prompt(rng), unknown.admission(manner, rng), manner
    kind, asked, answers = kinds.any_kind(rng)
    return kind, asked, answers[manner], manner


def _before(rng: random.Random) -> list[Message]:
    """What stands before the prompt in a few examples: a system message, an earlier exchange."""
    messages = []
    if rng.random() < SYSTEM_SHARE:
        messages.append(Message(role="system", content=_system_message(rng)))
    if rng.random() < SECOND_TURN_SHARE:
        _, asked, answer, _ = _exchange(rng)
        messages += [Message(role="user", content=typed(asked, rng)), Message(role="assistant", content=answer)]
    return messages


def _system_message(rng: random.Random) -> str:
    """One or two sentences; some hold names that mean nothing, as the model is to look past them."""
    if rng.random() < 0.3:
        return f"You are {unknown.invented_name(rng)}, an assistant of {unknown.invented_name(rng)}."
    return " ".join(rng.sample(SYSTEM_MESSAGES, rng.choice((1, 1, 2))))


def typed(prompt: str, rng: random.Random) -> str:
    """The prompt as people type it: mostly neat, at times in lower case, unpunctuated, polite or with a slip."""
    text = prompt
    if rng.random() < 0.15:
        text = re.sub(r"\bWhat is\b", rng.choice(("What's", "Whats")), text)
    if rng.random() < 0.10:
        start = rng.choice(("Please ", "Hey, ", "Can you tell me: ", "Quick question: ", "Hi! ", "Ok, "))
        text = start + (text[:1].lower() + text[1:] if start == "Please " else text)
    roll = rng.random()
    if roll < 0.22:
        text = text.lower()
    elif roll < 0.25:
        text = text.upper()
    if rng.random() < 0.18:
        text = text.rstrip("?.")
    elif rng.random() < 0.05:
        text += rng.choice(("?", "!", " ?", "??", " please", " Thanks!"))
    if rng.random() < 0.03:
        text = _with_slip(text, rng)
    return text


def _with_slip(text: str, rng: random.Random) -> str:
    """The text with one letter of its first half left out or doubled; names mostly stand later."""
    if len(text) < 12:
        return text
    place = rng.randrange(1, len(text) // 2)
    return text[:place] + rng.choice(("", text[place] * 2)) + text[place + 1 :]
