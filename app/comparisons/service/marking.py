"""Error spans between the page and the table: sent by shown place and by place in the campaign's list of categories,
kept by completion id and by name.

The page sends them in one field, as JSON: `[{"place": 1, "start": 0, "end": 3, "category": 2, "text": "The"}]`. The
words come along so that a span can never slip: what they say must be what stands there.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app.campaigns.asking import MOST_SPANS, Asked
from app.comparisons.spans import Span, overlap_of
from app.database import get_row
from app.errors import Invalid
from app.wording import gettext as _

LONGEST_QUOTE = 60
"""Characters of a span's words in a message."""

Stored = dict[str, list[dict[str, Any]]]
"""Completion id to its spans."""


class SentSpan(BaseModel):
    """One span as the page sends it; `place` and `category` count from 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    place: Annotated[int, Field(ge=1)]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    category: Annotated[int, Field(ge=1)]
    text: str


_SENT = TypeAdapter(list[SentSpan])

_TEXTS = """
    SELECT array_agg(completions.text ORDER BY places.place) AS texts
    FROM unnest(CAST(%(shown_order)s AS bigint[])) WITH ORDINALITY AS places(id, place)
    JOIN completions ON completions.id = places.id
"""


def shown_texts(session: Session, shown_order: Sequence[int]) -> list[str]:
    """The completions' texts as they are stored, in the order in which they are shown."""
    return list(get_row(session, _TEXTS, {"shown_order": list(shown_order)}).texts or [])


def read_spans(sent: str, *, asked: Asked, shown_order: Sequence[int], texts: Sequence[str]) -> Stored:
    """What is stored of the field that the page sent; raises Invalid, in words, for what does not fit the texts."""
    try:
        given = _SENT.validate_json(sent)
    except ValidationError as error:
        raise Invalid(_("What you marked could not be read. Reload the page and mark it again.")) from error
    found: dict[int, list[Span]] = defaultdict(list)
    for each in given:
        found[each.place].append(_checked(each, asked, texts))
    for place, spans in found.items():
        if len(spans) > MOST_SPANS:
            raise Invalid(
                _("At most %(most)s marks in one completion. Remove some of them, and send again.", most=MOST_SPANS)
            )
        if overlapping := overlap_of(spans):
            raise Invalid(
                _(
                    "Two marks “%(name)s” overlap at “%(text)s”. Remove one of them, and send again.",
                    name=overlapping.category,
                    text=_quote(texts[place - 1][overlapping.start : overlapping.end]),
                )
            )
    ordered = ((shown_order[place - 1], sorted(found[place])) for place in sorted(found))
    return {str(completion_id): [span.as_stored() for span in spans] for completion_id, spans in ordered}


def _checked(sent: SentSpan, asked: Asked, texts: Sequence[str]) -> Span:
    if sent.place > len(texts) or sent.category > len(asked.spans):
        raise Invalid(_("What you marked is not asked here. Reload the page and mark it again."))
    text = texts[sent.place - 1]
    if not sent.start < sent.end <= len(text):
        raise Invalid(_("A mark lies outside its text. Remove it and mark the words again."))
    if text[sent.start : sent.end] != sent.text:
        raise Invalid(
            _(
                "“%(text)s” is not what stands where you marked it. Remove the mark and set it again.",
                text=_quote(sent.text),
            )
        )
    return Span(sent.start, sent.end, asked.spans[sent.category - 1].name)


def sent_spans(
    stored: Mapping[str, Sequence[dict[str, Any]]], *, asked: Asked, shown_order: Sequence[int], texts: Sequence[str]
) -> str:
    """The field as the page would send what is stored, in characters that nothing on the way changes; blank for none.

    Spans of a category that is not asked any more are left out.
    """
    numbers = {category.name: number for number, category in enumerate(asked.spans, start=1)}
    found = []
    for place, completion_id in enumerate(shown_order, start=1):
        for span in map(Span.stored, stored.get(str(completion_id), [])):
            if span.category in numbers:
                quoted = span.quoting(texts[place - 1])
                found.append({"place": place, **quoted, "category": numbers[span.category]})
    return json.dumps(found, separators=(",", ":")) if found else ""


def _quote(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= LONGEST_QUOTE else f"{shown[: LONGEST_QUOTE - 1]}…"
