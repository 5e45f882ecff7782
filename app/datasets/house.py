"""The house format: one comparison a line of JSON, with or without judgments (docs/formats.md).

Rankings, ratings, flags and spans refer to completions by their place in the line, from 1. Reading is strict: a field
that nobody knows is refused rather than lost, because `judgements` would otherwise cost somebody's verdicts.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Self

import orjson
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from app.comparisons.ranking import parse_ranking
from app.comparisons.spans import Span, overlap_of
from app.errors import Invalid
from app.generation.normalising import text_sha256
from app.wording import gettext as _

UNKNOWN_ANNOTATOR = "unknown"
"""Stands for an annotator that a file does not name; may occur more than once in a line."""

MOST_COMPLETIONS = 32
MOST_JUDGMENTS = 25
"""The most judgments that a comparison can take; the database's limit on redundancy."""

_BIGGEST_INT = 2**31 - 1

Text = Annotated[str, Field(min_length=1)]


class HouseValue(BaseModel):
    """Part of a line: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class HouseMessage(HouseValue):
    """One turn of a prompt."""

    role: Annotated[str, Field(pattern="^(system|user|assistant)$")]
    content: str


class HouseSampling(HouseValue):
    """How a completion was drawn, as far as known."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Annotated[int, Field(ge=1, le=_BIGGEST_INT)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    finish_reason: str | None = None


class HouseCompletion(HouseValue):
    """One completion: its text, and what its file calls the model that wrote it."""

    text: Annotated[str, Field(validation_alias=AliasChoices("text", "content"))]
    model: Text | None = None
    sampling: HouseSampling | None = None


class HouseDemonstration(HouseValue):
    """What an annotator wrote themselves; `corrects` is the place of the completion that they corrected."""

    text: Text
    corrects: Annotated[int, Field(ge=1)] | None = None
    written_at: datetime | None = None

    @field_validator("text")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError(_("a demonstration needs a text"))
        return value

    @field_validator("written_at")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return _as_utc(value)


class HouseSpan(HouseValue):
    """A stretch of a completion's text under a category of errors, in code points: `text` is what stands there."""

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    category: Text
    text: str | None = None

    def checked_for(self, completion: str) -> None:
        """Raise ValueError where this is no stretch of the completion's text."""
        if not self.start < self.end <= len(completion):
            raise ValueError(
                _(
                    "a span from %(start)s to %(end)s is no part of its text of %(length)s characters",
                    start=self.start,
                    end=self.end,
                    length=len(completion),
                )
            )
        if self.text is not None and self.text != completion[self.start : self.end]:
            raise ValueError(
                _("a span's text is not what stands from %(start)s to %(end)s", start=self.start, end=self.end)
            )

    def as_span(self) -> Span:
        """The stretch alone."""
        return Span(self.start, self.end, self.category)


class HouseJudgment(HouseValue):
    """What one annotator decided. `ranking` names completions by their place, best first: `2>1=3`."""

    annotator: Text = UNKNOWN_ANNOTATOR
    ranking: Text | None = None
    all_bad: bool = False
    strength: int | list[int] | None = None
    criteria: dict[str, Text] | None = None
    ratings: dict[str, float] | None = None
    flags: dict[str, list[str]] | None = None
    spans: dict[str, list[HouseSpan]] | None = None
    rationale: str = ""
    confidence: Annotated[int, Field(ge=1, le=5)] | None = None
    active_ms: Annotated[int, Field(ge=0, le=_BIGGEST_INT)] | None = None
    judged_at: datetime | None = None
    surplus: bool = False
    demonstration: HouseDemonstration | None = None

    @field_validator("judged_at")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return _as_utc(value)

    @property
    def strengths(self) -> list[int] | None:
        """One number per adjacent pair of tie groups, or None."""
        return [self.strength] if isinstance(self.strength, int) else self.strength

    def checked_for(self, texts: Sequence[str]) -> None:
        """Raise ValueError where this verdict does not fit a comparison of completions with these texts."""
        completions = len(texts)
        if self.ranking is None and not self.all_bad and completions > 1:
            raise ValueError(_("a judgment needs a ranking, or all_bad"))
        if completions < 2:
            self._checked_for_writing()
        groups = _groups(self.ranking, completions) if self.ranking is not None else None
        for text in (self.criteria or {}).values():
            _groups(text, completions)
        if self.strengths is not None and len(self.strengths) != (len(groups) if groups else 1) - 1:
            raise ValueError(_("strength needs one number for each step of the ranking"))
        if self.demonstration is not None and (self.demonstration.corrects or 0) > completions:
            raise ValueError(_("a demonstration corrects a completion that is not there"))
        for position in [*(self.ratings or {}), *(self.flags or {}), *(self.spans or {})]:
            if not (position.isascii() and position.isdigit() and 1 <= int(position) <= completions):
                raise ValueError(_("there is no completion '%(position)s'; they are counted from 1", position=position))
            if position != str(int(position)):
                raise ValueError(
                    _("write completion '%(position)s' as '%(int)s'", position=position, int=int(position))
                )
        for position, spans in (self.spans or {}).items():
            for span in spans:
                span.checked_for(texts[int(position) - 1])
            if overlapping := overlap_of(span.as_span() for span in spans):
                raise ValueError(_("two spans of “%(name)s” overlap", name=overlapping.category))

    def _checked_for_writing(self) -> None:
        """Raise ValueError where this is not what somebody wrote for a prompt, and nothing else."""
        if self.demonstration is None:
            raise ValueError(_("where there is nothing to compare, a judgment needs a demonstration"))
        if self.ranking is not None or self.all_bad or self.strength or self.criteria or self.ratings or self.flags:
            raise ValueError(_("where there is nothing to compare, a judgment holds a demonstration and no verdict"))


class HouseComparison(HouseValue):
    """One line: a prompt, two or more completions that differ, and the judgments there are."""

    id: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    prompt: list[HouseMessage]
    completions: Annotated[list[HouseCompletion], Field(min_length=2, max_length=MOST_COMPLETIONS)]
    judgments: list[HouseJudgment] = []
    tags: list[Text] = []
    metadata: dict[str, Any] = {}
    redundancy: Annotated[int, Field(ge=1, le=MOST_JUDGMENTS)] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_is_a_user_turn(cls, value: Any) -> Any:
        return [{"role": "user", "content": value}] if isinstance(value, str) else value

    @field_validator("completions", mode="before")
    @classmethod
    def _text_is_a_completion(cls, value: Any) -> Any:
        return [{"text": item} if isinstance(item, str) else item for item in value] if _is_list(value) else value

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not self.prompt or self.prompt[-1].role != "user" or not self.prompt[-1].content.strip():
            raise ValueError(_("the prompt must end in a user turn with text"))
        for number, completion in enumerate(self.completions, start=1):
            if not completion.text.strip():
                raise ValueError(_("completion %(number)s is empty", number=number))
        if len(set(self.completion_sha256s)) < len(self.completions):
            raise ValueError(_("two completions are the same text"))
        for judgment in self.judgments:
            judgment.checked_for([completion.text for completion in self.completions])
        named = [each.annotator for each in self.judgments if each.annotator != UNKNOWN_ANNOTATOR]
        if len(set(named)) < len(named):
            raise ValueError(_("an annotator judges a comparison once; this line has two judgments of one"))
        if self.counted_judgments > MOST_JUDGMENTS:
            raise ValueError(
                _("a comparison takes at most %(most_judgments)s judgments", most_judgments=MOST_JUDGMENTS)
            )
        return self

    @cached_property
    def completion_sha256s(self) -> tuple[str, ...]:
        """Hash of each completion's text as normalised."""
        return tuple(text_sha256(completion.text) for completion in self.completions)

    @property
    def counted_judgments(self) -> int:
        """How many of the judgments fill a slot."""
        return sum(not judgment.surplus for judgment in self.judgments)


class HousePrompt(HouseComparison):
    """One line of a campaign in which people write: a prompt, what they wrote for it, and the draft they began with if
    there was one.
    """

    completions: list[HouseCompletion] = []

    @field_validator("completions")
    @classmethod
    def _are_a_draft_at_most(cls, value: list[HouseCompletion]) -> list[HouseCompletion]:
        if len(value) > 1:
            raise ValueError(_("in this campaign people write, and a line has one completion at most: their draft"))
        return value


def parse_line(line: bytes, *, is_writing: bool = False) -> HouseComparison:
    """The comparison that a line holds, or with `is_writing` the prompt that was written for.

    Raises ValueError with the reason, in words, where it holds none.
    """
    try:
        comparison = (HousePrompt if is_writing else HouseComparison).model_validate_json(line)
    except ValidationError as error:
        raise ValueError(_reason(error)) from error
    _refuse_unstorable(comparison, line)
    return comparison


def house_line(value: dict[str, Any]) -> bytes:
    """A line as bytes with its newline; fields that say nothing are left out."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def said(**fields: Any) -> dict[str, Any]:
    """Those of the fields that say something: neither null nor empty nor false."""
    return {name: value for name, value in fields.items() if value or (value == 0 and value is not False)}


def _as_utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _groups(ranking: str, completions: int) -> list[list[int]]:
    try:
        return parse_ranking(ranking, completions)
    except Invalid as error:
        raise ValueError(error.message) from error


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _refuse_unstorable(comparison: HouseComparison, line: bytes) -> None:
    """PostgreSQL stores no NUL character, and JSON there has no place for numbers beyond 64 bits."""
    if b"\\u0000" in line and any("\x00" in text for text in _texts(comparison.model_dump())):
        raise ValueError(_("the text holds a NUL character, which cannot be stored"))
    if comparison.metadata:
        try:
            orjson.dumps(comparison.metadata)
        except TypeError as error:
            raise ValueError(_("metadata cannot be stored: %(error)s", error=error)) from error


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _reason(error: ValidationError) -> str:
    """The first fault in words, with the field it is in."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    messages = {
        "json_invalid": _("not valid JSON (%(fault)s)", fault=fault.get("ctx", {}).get("error", "")),
        "model_type": _("a line must be a JSON object"),
        "missing": _("%(where)s is missing", where=where),
        "extra_forbidden": _("unknown field %(where)s (further facts go under metadata)", where=where),
        "value_error": str(fault.get("ctx", {}).get("error", fault["msg"])),
    }
    message = messages.get(fault["type"])
    if message is None:
        said_by_pydantic = str(fault["msg"])
        message = f"{where}: {said_by_pydantic[:1].lower()}{said_by_pydantic[1:]}"
    return message
