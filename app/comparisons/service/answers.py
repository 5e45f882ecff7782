"""What annotators answer beside the verdict, from the fields of the page to what is stored, by completion id.

The fields, by shown position and by place in the campaign's lists, both from 1: `criterion-2` (a ranking),
`rating-1`, `flag-1-3`, `confidence`, `rationale`; and `spans`, for `marking.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.campaigns.asking import CONFIDENCES, STRENGTHS, Asked, Rationale
from app.comparisons.ranking import Groups, parse_ranking, to_completions
from app.comparisons.service.marking import Stored, read_spans
from app.errors import Invalid
from app.wording import gettext as _

LONGEST_RATIONALE = 5000


@dataclass(frozen=True)
class Answers:
    """As stored; None where nothing was answered."""

    criteria: dict[str, Groups] | None = None
    ratings: dict[str, int] | None = None
    flags: dict[str, list[str]] | None = None
    spans: Stored | None = None
    confidence: int | None = None
    rationale: str = ""
    strengths: list[int] | None = None


@dataclass(frozen=True)
class Given:
    """The fields as they were sent, and the strength that came with the verdict."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    strength: int | None = None

    @property
    def spans(self) -> str:
        """The field of error spans, blank where none were sent."""
        return str(self.fields.get("spans", "")).strip()


def read_answers(
    given: Given,
    *,
    asked: Asked,
    shown_order: list[int],
    ranking: Groups | None,
    all_bad: bool,
    texts: Sequence[str] = (),
) -> Answers:
    """The answers, checked against what the campaign asks; what it does not ask is left out.

    `texts` are the completions as shown; only spans need them. Where all are bad nothing else need be said. Raises
    Invalid, in words, for what is missing or cannot be read.
    """
    rationale = str(given.fields.get("rationale", "")).strip()[:LONGEST_RATIONALE] if asked.rationale else ""
    if asked.rationale is Rationale.REQUIRED and not rationale:
        raise Invalid(_("Say why in a few words; this campaign asks for a reason."))
    return Answers(
        criteria=_criteria(given, asked, shown_order, may_lack=all_bad) or None,
        ratings=_ratings(given, asked, shown_order) or None,
        flags=_flags(given, asked, shown_order) or None,
        spans=_spans(given, asked, shown_order, texts) or None,
        confidence=_number(given, "confidence", most=CONFIDENCES) if asked.confidence else None,
        rationale=rationale,
        strengths=_strengths(given, asked, shown_order, ranking),
    )


def _criteria(given: Given, asked: Asked, shown_order: list[int], *, may_lack: bool) -> dict[str, Groups]:
    """Rankings by each of them; where digits alone were written, they stand from best to worst: 213 is 2>1>3."""
    found: dict[str, Groups] = {}
    for place, criterion in enumerate(asked.criteria, start=1):
        wire = "".join(str(given.fields.get(f"criterion-{place}", "")).split())
        if wire:
            wire = ">".join(wire) if wire.isdecimal() else wire
            found[criterion.name] = to_completions(parse_ranking(wire, len(shown_order)), shown_order)
        elif not may_lack:
            raise Invalid(_("Judge by every criterion first; “%(name)s” is missing.", name=criterion.name))
    return found


def _ratings(given: Given, asked: Asked, shown_order: list[int]) -> dict[str, int]:
    found = {}
    for position, completion_id in enumerate(shown_order if asked.rating else (), start=1):
        if (rating := _number(given, f"rating-{position}", most=asked.rating)) is not None:
            found[str(completion_id)] = rating
    return found


def _flags(given: Given, asked: Asked, shown_order: list[int]) -> dict[str, list[str]]:
    found = {}
    for position, completion_id in enumerate(shown_order, start=1):
        raised = [
            flag for place, flag in enumerate(asked.flags, start=1) if given.fields.get(f"flag-{position}-{place}")
        ]
        if raised:
            found[str(completion_id)] = raised
    return found


def _spans(given: Given, asked: Asked, shown_order: list[int], texts: Sequence[str]) -> Stored:
    if not (asked.spans and given.spans):
        return {}
    return read_spans(given.spans, asked=asked, shown_order=shown_order, texts=texts)


def _strengths(given: Given, asked: Asked, shown_order: list[int], ranking: Groups | None) -> list[int] | None:
    """One number, for a pair in which one is better."""
    if not asked.strength or given.strength is None or len(shown_order) != 2 or ranking is None or len(ranking) != 2:
        return None
    if not 1 <= given.strength <= STRENGTHS:
        raise Invalid(_("A strength is a number from 1 to %(most)s.", most=STRENGTHS))
    return [given.strength]


def _number(given: Given, name: str, *, most: int) -> int | None:
    text = str(given.fields.get(name, "")).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= most):
        raise Invalid(_("Choose a number from 1 to %(most)s.", most=most))
    return int(text)
