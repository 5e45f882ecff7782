"""Every form of judgment as one comparison to judge: what the campaign asks, what is pressed, what must be stored."""

from dataclasses import dataclass
from typing import Any

from app.campaigns.asking import NOTHING, Asked, Criterion, Rationale, Strength

PROMPT = "Why do leaves turn red in autumn?"
COMPLETIONS = (
    "In autumn a tree takes the green **chlorophyll** out of its leaves and keeps what it can use again. Red pigments, "
    "the anthocyanins, are made in that time. They shade the leaf while it is emptied.",
    "Because it gets cold. The cold kills the leaf, and dead things are red or brown.",
    "Three things come together:\n\n1. The days grow shorter.\n2. The green fades.\n3. Sugar that is caught in "
    "the leaf turns into red pigment.",
    "Leaves turn red when the tree prepares for winter. It is one of the most beautiful sights of the year!",
    "They do not turn red. You may be thinking of flowers.",
    "The red was there all the time and becomes visible as the green goes. That is true of the yellow ones.",
    "Rotes Laub entsteht durch Anthocyane.",
    "Chlorophyll breaks down faster than it is made once nights are cool; sunny days then make for the brightest reds.",
    "Ask a botanist.",
)
CRITERIA = (
    Criterion(name="helpful", help="answers what was asked"),
    Criterion(name="honest", help="says nothing that is not so"),
    Criterion(name="harmless", help="does nobody harm"),
)


@dataclass(frozen=True)
class Form:
    """One form. `keys` are pressed at a desk, `taps` touched on a phone; both mean `stored`, by place as shown.

    A key of several letters is one of the keyboard's (`Escape`); `type:` begins a text. A tap is a selector. The
    picture is taken before the last `unpictured` of them.
    """

    name: str
    keys: tuple[str, ...]
    taps: tuple[str, ...]
    stored: dict[str, Any]
    asked: Asked = NOTHING
    shown: int = 2
    unpictured: int = 1


def option(name: str, value: str) -> str:
    """The label around a choice."""
    return f'.beside label:has(input[name="{name}"][value="{value}"])'


FIRST, SECOND = 'button[name="ranking"][value="1>2"]', 'button[name="ranking"][value="2>1"]'
RECORD = "button[data-record]"


def chips(*places: int) -> tuple[str, ...]:
    """Numbers of the strip, in the order in which they are touched."""
    return tuple(f'.chips [data-place="{place}"]' for place in places)


BY_CRITERIA = {"helpful": "1>2", "honest": "1=2", "harmless": "2>1"}
TAPPED_CRITERIA = (option("criterion-1", "1>2"), option("criterion-2", "1=2"), option("criterion-3", "2>1"))

FORMS = [
    Form("pair", ("1",), (FIRST,), {"ranking": "1>2"}),
    Form("tie", ("0",), ('button[value="1=2"]',), {"ranking": "1=2"}),
    Form("all-bad", ("b",), ('button[name="all_bad"]',), {"all_bad": True}),
    Form(
        "strength-words",
        ("6",),
        ('button[value="2>1:2"]',),
        {"ranking": "2>1", "strengths": [2]},
        Asked(strength=Strength.WORDS),
    ),
    Form(
        "strength-points",
        ("1",),
        ('button[value="1>2:4"]',),
        {"ranking": "1>2", "strengths": [4]},
        Asked(strength=Strength.POINTS),
    ),
    Form(
        "criteria-beside",
        ("c", "1", "0", "2", "Escape", "1"),
        (*TAPPED_CRITERIA, FIRST),
        {"ranking": "1>2", "criteria": BY_CRITERIA},
        Asked(criteria=CRITERIA),
    ),
    Form(
        "criteria-alone",
        ("1", "0", "1", "Enter"),
        (option("criterion-1", "1>2"), option("criterion-2", "1=2"), option("criterion-3", "1>2"), RECORD),
        {"ranking": "1>2", "criteria": {"helpful": "1>2", "honest": "1=2", "harmless": "1>2"}},
        Asked(criteria=CRITERIA, criteria_alone=True),
    ),
    Form(
        "ratings",
        ("c", "6", "2", "Escape", "1"),
        (option("rating-1", "6"), option("rating-2", "2"), FIRST),
        {"ranking": "1>2", "ratings": {1: 6, 2: 2}},
        Asked(rating=7),
    ),
    Form(
        "flags",
        ("c", "Tab", "Space", "Escape", "2"),
        (option("flag-1-2", "1"), SECOND),
        {"ranking": "2>1", "flags": {1: ["off topic"]}},
        Asked(flags=("unsafe", "off topic", "wrong language")),
    ),
    Form(
        "rationale",
        ("c", "type:More accurate. ", "type:It names the pigment.", "Escape", "1"),
        ('[data-reason]:text("More accurate")', FIRST),
        {"ranking": "1>2"},
        Asked(rationale=Rationale.REQUIRED, reasons=("More accurate", "Clearer", "Better tone")),
    ),
    Form(
        "confidence",
        ("c", "4", "Escape", "1"),
        (option("confidence", "4"), FIRST),
        {"ranking": "1>2", "confidence": 4},
        Asked(confidence=True),
    ),
    Form(
        "marking",
        ("e", "ArrowRight", "Shift+ArrowRight", "1", "]", "2", "Escape", "1"),
        (
            '[data-key="e"]',
            *(".raw >> nth=0", '[data-category="1"]'),
            *(".raw >> nth=1", '[data-category="2"]'),
            *("[data-marked]", FIRST),
        ),
        {"ranking": "1>2", "spans": {1: ["Wrong"], 2: ["Unclear"]}},
        Asked(spans=(Criterion(name="Wrong", help="It is not so."), Criterion(name="Unclear"))),
        unpictured=2,
    ),
    Form("ranking-3", ("2", "3", "Enter"), (*chips(2, 3), RECORD), {"ranking": "2>3>1"}, shown=3),
    Form(
        "ranking-4",
        ("3", "1", "=", "4", "Enter"),
        (*chips(3, 1), '[data-ranking="tie"]', *chips(4), RECORD),
        {"ranking": "1=3>4>2"},
        shown=4,
    ),
    Form(
        "ranking-9",
        (*"918273654", "Enter"),
        (*chips(9, 1, 8, 2, 7, 3, 6, 5, 4), RECORD),
        {"ranking": "9>1>8>2>7>3>6>5>4"},
        shown=9,
    ),
]
