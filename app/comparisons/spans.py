"""Error spans: stretches of a completion's text, each under a category, and the pieces into which they divide the text.

Offsets are Unicode code points of the text as it is stored, from 0; `end` is one past the last. Spans of different
categories may overlap, those of one category may not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, order=True)
class Span:
    """One stretch of a text."""

    start: int
    end: int
    category: str

    @classmethod
    def stored(cls, value: dict[str, Any]) -> "Span":
        """From how a judgment keeps it."""
        return cls(int(value["start"]), int(value["end"]), str(value["category"]))

    def as_stored(self) -> dict[str, Any]:
        """As a judgment keeps it: the text is the completion's."""
        return {"start": self.start, "end": self.end, "category": self.category}

    def quoting(self, text: str) -> dict[str, Any]:
        """As it goes out, with the words that it marks in `text`."""
        return {**self.as_stored(), "text": text[self.start : self.end]}


@dataclass(frozen=True)
class Piece:
    """Part of a text under the same spans. `begins` and `ends` are the spans of which it is the first or last part."""

    text: str
    spans: tuple[Span, ...]
    begins: tuple[Span, ...] = ()
    ends: tuple[Span, ...] = ()


def overlap_of(spans: Iterable[Span]) -> Span | None:
    """A span that begins before another one of its category has ended, or None where there is none."""
    ordered = sorted(spans, key=lambda span: (span.category, span.start, span.end))
    for one, following in pairwise(ordered):
        if one.category == following.category and following.start < one.end:
            return following
    return None


def divided(text: str, spans: Sequence[Span]) -> list[Piece]:
    """The text from beginning to end, cut wherever a span begins or ends."""
    within = sorted(span for span in spans if 0 <= span.start < span.end <= len(text))
    cuts = sorted({0, len(text), *(span.start for span in within), *(span.end for span in within)})
    return [
        Piece(
            text=text[start:end],
            spans=tuple(span for span in within if span.start <= start and end <= span.end),
            begins=tuple(span for span in within if span.start == start),
            ends=tuple(span for span in within if span.end == end),
        )
        for start, end in pairwise(cuts)
    ]
