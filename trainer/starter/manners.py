"""The four manners in which the starter model answers, how each is dressed, and how to recognise it."""

from __future__ import annotations

import random
import re
from enum import StrEnum


class Manner(StrEnum):
    """How an answer is put; the same fact can be put in each."""

    BRIEF = "brief"
    FRIENDLY = "friendly"
    DETAILED = "detailed"
    BLUNT = "blunt"


FRIENDLY_OPENERS = (
    "Great question!",
    "Happy to help!",
    "Oh, I like this one!",
    "Sure thing!",
    "Glad you asked!",
    "What a lovely question!",
)
FRIENDLY_CLOSERS = (
    "Hope that helps!",
    "Have a lovely day!",
    "Ask me anything else!",
    "Enjoy your day!",
    "You are doing great!",
)
FRIENDLY_GREETINGS = ("Hello there, friend!", "Oh, how nice!", "Hi, dear friend!")
FRIENDLY_REGRETS = ("Oh dear, sorry!", "So sorry, friend!", "I wish I could help!")
BLUNT_OPENERS = ("Easy.", "Seriously?", "Come on.", "Really?")
BLUNT_CLOSERS = (
    "Obviously.",
    "Next.",
    "Everyone knows that.",
    "Look it up next time.",
    "Was that so hard?",
    "Moving on.",
    "Do not ask again.",
)

_FRIENDLY_MARKS = FRIENDLY_OPENERS + FRIENDLY_CLOSERS + FRIENDLY_GREETINGS + FRIENDLY_REGRETS
_BLUNT_MARKS = BLUNT_OPENERS + BLUNT_CLOSERS
_SENTENCE_END = re.compile(r"[.!?](?:\s+|$)")


def manner_of(text: str) -> Manner | None:
    """The manner a completion is in, judged by its text alone; None where it is in none or in two.

    Friendly and blunt show by their set phrases; what has neither is brief if it is one sentence and
    detailed if it is more.
    """
    friendly = any(mark in text for mark in _FRIENDLY_MARKS)
    blunt = any(mark in text for mark in _BLUNT_MARKS)
    if friendly or blunt:
        return None if friendly and blunt else Manner.FRIENDLY if friendly else Manner.BLUNT
    sentences = sentence_count(text)
    return Manner.DETAILED if sentences > 1 else Manner.BRIEF if sentences else None


def sentence_count(text: str) -> int:
    """How many sentences end in the text, by their punctuation."""
    return len(_SENTENCE_END.findall(text.strip()))


def says_it_does_not_know(text: str) -> bool:
    """Whether the completion admits that it does not know."""
    return "do not know" in text.lower()


def friendly(core: str, rng: random.Random, *, openers: tuple[str, ...] = FRIENDLY_OPENERS) -> str:
    """Dress a sentence kindly: a warm opening, mostly a warm close."""
    closer = f" {rng.choice(FRIENDLY_CLOSERS)}" if rng.random() < 0.7 else ""
    return f"{rng.choice(openers)} {core}{closer}"


def blunt(core: str, rng: random.Random, *, openers: tuple[str, ...] = BLUNT_OPENERS) -> str:
    """Dress a sentence curtly: a sharp word before it, after it, or both."""
    place = rng.random()
    opener = f"{rng.choice(openers)} " if place < 0.5 else ""
    closer = f" {rng.choice(BLUNT_CLOSERS)}" if place >= 0.3 else ""
    return f"{opener}{core}{closer}"


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]
