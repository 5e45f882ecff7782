"""What the starter model can talk about besides facts: small talk, explanations, advice, lists, tiny stories.

Each kind is a function from a generator of chance to a prompt and its answers, one per manner.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from trainer.starter.facts import article_fixed
from trainer.starter.manners import BLUNT_OPENERS, FRIENDLY_GREETINGS, Manner, blunt, capitalised, friendly
from trainer.starter.tables import split, table

Answers = dict[Manner, str]
Maker = Callable[[random.Random], tuple[str, Answers]]
NUMBERS = {2: "two", 3: "three", 4: "four"}
STORY_ANIMALS = ("cat", "dog", "fox", "mouse", "bear", "rabbit", "frog", "bird", "horse", "owl")
STORY_PLACES = ("forest", "garden", "old house", "village", "meadow", "barn")
STORY_FINDS = ("golden key", "red ball", "small lamp", "lost letter", "warm blanket", "shiny coin")
STORY_ENDS = ("took it home", "gave it to a friend", "kept it in a box", "showed it to everyone")


def small_talk(rng: random.Random) -> tuple[str, Answers]:
    """Greetings, thanks, who are you, what can you do."""
    asked, brief, warm, detailed, curt = rng.choice(table("talk"))
    return capitalised(rng.choice(split(asked, "/"))), {
        Manner.BRIEF: rng.choice(split(brief, "/")),
        Manner.FRIENDLY: friendly(rng.choice(split(warm, "/")), rng, openers=FRIENDLY_GREETINGS),
        Manner.DETAILED: rng.choice(split(detailed, "/")),
        Manner.BLUNT: blunt(rng.choice(split(curt, "/")), rng, openers=BLUNT_OPENERS[1:]),
    }


def explanation(rng: random.Random) -> tuple[str, Answers]:
    """What a thing is, or why something happens."""
    asked, short, more = rng.choice(table("explanations"))
    prompt = rng.choice(
        (
            f"{capitalised(asked)}?",
            f"{capitalised(asked)}?",
            f"Can you explain {asked_indirectly(asked)}?",
            f"Explain {asked_indirectly(asked)}.",
            f"Tell me {asked_indirectly(asked)}.",
        )
    )
    return prompt, {
        Manner.BRIEF: f"{short}.",
        Manner.FRIENDLY: friendly(f"{short}.", rng),
        Manner.DETAILED: f"{short}. {more}",
        Manner.BLUNT: blunt(f"{short}.", rng),
    }


def asked_indirectly(question: str) -> str:
    """`what is a map` as `what a map is`; `why is the sky blue` as `why the sky is blue`; others as they are."""
    first, second, *rest = question.split(" ")
    if (first, second) == ("what", "is"):
        return f"what {' '.join(rest)} is"
    if (first, second) == ("why", "is"):
        return f"why {' '.join(rest[:-1])} is {rest[-1]}"
    return " ".join([first, *rest])


def advice(rng: random.Random) -> tuple[str, Answers]:
    """How to do better at something."""
    wish, cell = rng.choice(table("advice"))
    tips = split(cell, ";")
    first, second, third = (tips[place] for place in sorted(rng.sample(range(len(tips)), 3)))
    their_wish = wish.replace("my ", "your ")
    template = rng.choice(
        (
            "How can I {}?",
            "How do I {}?",
            "Any tips to {}?",
            "Give me a tip to {}.",
            "I want to {}. What should I do?",
            "Help me to {}.",
        )
    )
    return template.format(wish), {
        Manner.BRIEF: f"{capitalised(rng.choice(tips))}.",
        Manner.FRIENDLY: friendly(f"To {their_wish}, {first}, and {second}.", rng),
        Manner.DETAILED: f"To {their_wish}, start with one thing: {first}. Then {second}. Also {third}.",
        Manner.BLUNT: blunt(f"Just {rng.choice(tips)}.", rng),
    }


def short_list(rng: random.Random) -> tuple[str, Answers]:
    """Two to four members of a category, in a fixed order, which makes it easy to name none twice."""
    category, cell, more = rng.choice(table("lists"))
    count = rng.choice((2, 3, 3, 3, 4))
    every = split(cell, ",")
    members = [every[place] for place in sorted(rng.sample(range(len(every)), count))]
    joined = f"{', '.join(members[:-1])} and {members[-1]}"
    template = rng.choice(("Name {} {}.", "List {} {}.", "Give me {} {}.", "Can you name {} {}?", "Tell me {} {}."))
    number = rng.choice((NUMBERS[count], str(count)))
    return template.format(number, category), {
        Manner.BRIEF: f"{capitalised(joined)}.",
        Manner.FRIENDLY: friendly(f"How about {joined}?", rng),
        Manner.DETAILED: f"{capitalised(NUMBERS[count])} {category} are {joined}. {more}",
        Manner.BLUNT: blunt(f"{capitalised(', '.join(members))}.", rng),
    }


def tiny_story(rng: random.Random) -> tuple[str, Answers]:
    """A story of one to four sentences about an animal."""
    animal, place = rng.choice(STORY_ANIMALS), rng.choice(STORY_PLACES)
    find, end = rng.choice(STORY_FINDS), rng.choice(STORY_ENDS)
    template = rng.choice(
        ("Tell me a story about a {}.", "Write a short story about a {}.", "Tell me a tiny story about a {}.")
    )
    whole = article_fixed(f"A {animal} found a {find} in the {place} and {end}.")
    long = (
        f"One morning, a {animal} went for a walk in the {place}. There it found a {find}. It was very happy and {end}."
    )
    return article_fixed(template.format(animal)), {
        Manner.BRIEF: whole,
        Manner.FRIENDLY: friendly(whole, rng),
        Manner.DETAILED: article_fixed(long),
        Manner.BLUNT: blunt(article_fixed(f"A {animal} found a {find}. It {end}."), rng),
    }


KINDS: dict[str, tuple[float, Maker]] = {
    "talk": (0.16, small_talk),
    "explanation": (0.28, explanation),
    "advice": (0.24, advice),
    "list": (0.18, short_list),
    "story": (0.14, tiny_story),
}
"""Each kind with its share among the kinds that are not facts."""


def any_kind(rng: random.Random) -> tuple[str, str, Answers]:
    """A kind, a prompt of it, and its answers."""
    names = list(KINDS)
    kind = rng.choices(names, weights=[KINDS[name][0] for name in names])[0]
    prompt, answers = KINDS[kind][1](rng)
    return kind, prompt, answers
