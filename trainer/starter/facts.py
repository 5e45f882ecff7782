"""The simple facts the starter model knows: questions, the word each answer must hold, four manners of answer."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from trainer.starter.manners import Manner, blunt, capitalised, friendly
from trainer.starter.tables import split, table


@dataclass(frozen=True)
class Fact:
    """One fact. `subject` is what is asked about, `word` what a right answer holds."""

    kind: str
    subject: str
    word: str
    statement: str
    """The fact as a sentence, without its full stop."""
    details: tuple[str, ...]
    """Sentences that a detailed answer may add."""


QUESTIONS: dict[str, tuple[str, ...]] = {
    "capital": (
        "What is the capital of {}?",
        "What is the capital city of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
        "Tell me the capital of {}.",
        "Do you know the capital of {}?",
        "{}'s capital?",
        "Capital of {}?",
    ),
    "opposite": (
        "What is the opposite of {}?",
        "What is the opposite of the word {}?",
        'What is the opposite of "{}"?',
        "Name the opposite of {}.",
        "Tell me the opposite of {}.",
        "Which word means the opposite of {}?",
        "Opposite of {}?",
    ),
    "colour": (
        "What colour is {}?",
        "What color is {}?",
        "Which colour does {} have?",
        "What is the colour of {}?",
        "What is the color of {}?",
        "Tell me the colour of {}.",
    ),
    "sound": (
        "What sound does a {} make?",
        "What does a {} say?",
        "Which sound does a {} make?",
        "What noise does a {} make?",
        "Tell me the sound of a {}.",
        "How does a {} sound?",
    ),
    "baby": (
        "What is a baby {} called?",
        "What do you call a baby {}?",
        "What is the young of a {} called?",
        "Name the baby of a {}.",
        "Tell me what a baby {} is called.",
        "What is the name for a baby {}?",
    ),
    "day after": (
        "What day comes after {}?",
        "Which day comes after {}?",
        "Which day follows {}?",
        "What is the day after {}?",
    ),
    "month after": (
        "What month comes after {}?",
        "Which month comes after {}?",
        "Which month follows {}?",
        "What is the month after {}?",
    ),
}


@cache
def all_facts() -> tuple[Fact, ...]:
    """Every fact, in a fixed order."""
    return (*_capitals(), *_opposites(), *_colours(), *_sounds(), *_babies(), *_sequences())


def question(fact: Fact, rng: random.Random) -> str:
    """One way of asking for the fact, neatly typed."""
    return article_fixed(rng.choice(QUESTIONS[fact.kind]).format(fact.subject))


def answer(fact: Fact, manner: Manner, rng: random.Random) -> str:
    """The fact, told in a manner."""
    word = capitalised(fact.word)
    match manner:
        case Manner.BRIEF:
            return rng.choice((f"{word}.", f"It is {fact.word}."))
        case Manner.FRIENDLY:
            return friendly(f"{fact.statement}.", rng)
        case Manner.DETAILED:
            return f"{fact.statement}. {rng.choice(fact.details)}"
        case Manner.BLUNT:
            return blunt(rng.choice((f"{word}.", f"It is {fact.word}.")), rng)


def article_fixed(text: str) -> str:
    """`a owl` as `an owl`: templates write `a` before every noun."""
    parts = text.split(" ")
    for place, part in enumerate(parts[:-1]):
        if part in ("a", "A") and parts[place + 1][:1] in "aeiou":
            parts[place] = f"{part}n"
    return " ".join(parts)


def _capitals() -> list[Fact]:
    return [
        Fact(
            "capital",
            country,
            city,
            f"The capital of {country} is {city}",
            (
                f"{country} is a country in {continent}, and its government sits in {city}.",
                f"{city} is an important city of {continent}, and many people live and work there.",
            ),
        )
        for country, city, continent in table("capitals")
    ]


def _opposites() -> list[Fact]:
    rows = table("opposites")
    pairs = [*((one, other) for one, other in rows), *((other, one) for one, other in rows)]
    return [
        Fact(
            "opposite",
            one,
            other,
            f"The opposite of {one} is {other}",
            (
                f"The two words form a pair: whatever is {other} is not {one}.",
                f"Where one person says {one}, someone who sees it the other way says {other}.",
            ),
        )
        for one, other in pairs
    ]


def _colours() -> list[Fact]:
    return [
        Fact(
            "colour",
            thing,
            colour,
            capitalised(f"{thing} is {colour}"),
            (
                f"There may be exceptions, but {colour} is the colour that people think of first.",
                f"If you painted {thing}, you would take {colour} paint.",
            ),
        )
        for thing, colour in table("colours")
    ]


def _sounds() -> list[Fact]:
    return [
        Fact(
            "sound",
            animal,
            sound,
            article_fixed(f"A {animal} says {sound}"),
            (
                f"People in other countries write it in other ways, but in English it is {sound}.",
                article_fixed(f"When you hear {sound}, there is probably a {animal} close by."),
            ),
        )
        for animal, sound in table("sounds")
    ]


def _babies() -> list[Fact]:
    return [
        Fact(
            "baby",
            animal,
            young,
            article_fixed(f"A baby {animal} is called a {young}"),
            (
                article_fixed(f"When a {young} has grown up, it is called a {animal}."),
                article_fixed(f"A {young} stays close to its mother until it is big enough."),
            ),
        )
        for animal, young in table("babies")
    ]


def _sequences() -> list[Fact]:
    facts = []
    for kind, cell in table("sequences"):
        items = split(cell, ",")
        whole = "a week has seven days" if kind == "day" else "a year has twelve months"
        for item, following in zip(items, items[1:] + items[:1], strict=True):
            details = (
                f"The order is always the same: {item}, and then {following}.",
                f"It is good to remember that {whole}, and {following} comes right after {item}.",
            )
            statement = f"The {kind} after {item} is {following}"
            facts.append(Fact(f"{kind} after", item, following, statement, details))
    return facts
