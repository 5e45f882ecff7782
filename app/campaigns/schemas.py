"""Forms of campaigns, with messages for the people who fill them in."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.accounts.credentials import email_problem
from app.campaigns.asking import Asked, Criterion, Rationale, Strength, asked_by
from app.campaigns.guidance import LONGEST_EXAMPLE, MOST_EXAMPLES, Guidance, guidance
from app.campaigns.models import Access, Campaign, CampaignKind, CampaignRevision
from app.campaigns.service.editing import LONGEST_NAME, LONGEST_TEXT, CampaignPlan, Question
from app.campaigns.service.sources import read_source_key, source_key
from app.wording import gettext as _

MOST_SAMPLES = 16
"""Samples drawn per comparison; more would make people wait for little."""

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


def _is_on(value: Any) -> bool:
    return value in {True, "true", "on", "1"}


Checkbox = Annotated[bool, BeforeValidator(_is_on)]


MOST_CRITERIA, MOST_FLAGS, MOST_CATEGORIES, MOST_REASONS, LONGEST_LABEL = 8, 20, 9, 12, 60


class AskedForm(BaseModel):
    """What is asked beside the verdict, as a manager writes it: lists are lines."""

    strength: Strength = Strength.NONE
    criteria: Text = ""
    criteria_alone: Checkbox = False
    confidence: Checkbox = False
    rating: Annotated[int, Field(ge=0, le=10)] = 0
    flags: Text = ""
    spans: Text = ""
    rationale: Rationale = Rationale.NONE
    reasons: Text = ""
    corrections: Checkbox = False

    @field_validator("criteria", "flags", "spans", "reasons")
    @classmethod
    def _lines(cls, value: str, info: ValidationInfo) -> str:
        lines = [" ".join(line.split()) for line in value.splitlines() if line.strip()]
        most = {"criteria": MOST_CRITERIA, "flags": MOST_FLAGS, "spans": MOST_CATEGORIES, "reasons": MOST_REASONS}
        has_help = info.field_name in {"criteria", "spans"}
        names = [line.partition(":")[0].strip() if has_help else line for line in lines]
        if len(lines) > most[str(info.field_name)]:
            raise ValueError(
                _("At most %(most)s lines: more is not judged with care.", most=most[str(info.field_name)])
            )
        for number, name in enumerate(names, start=1):
            if not name or len(name) > LONGEST_LABEL:
                raise ValueError(
                    _("Line %(number)s needs a name of at most %(most)s characters.", number=number, most=LONGEST_LABEL)
                )
            if name in names[: number - 1]:
                raise ValueError(_("Line %(number)s: “%(name)s” is there twice.", number=number, name=name))
        return "\n".join(lines)

    @field_validator("criteria_alone")
    @classmethod
    def _has_criteria(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("criteria"):
            raise ValueError(_("Without a verdict as a whole there must be criteria to judge by."))
        return value

    @field_validator("rating")
    @classmethod
    def _is_a_scale(cls, value: int) -> int:
        if value == 1:
            raise ValueError(_("A scale needs at least 2 steps; 0 asks for no rating."))
        return value

    def asked(self) -> Asked:
        """As a revision stores it."""
        return Asked(
            criteria=_criteria(self.criteria),
            criteria_alone=self.criteria_alone,
            strength=Strength.NONE if self.criteria_alone else self.strength,
            confidence=self.confidence,
            rating=self.rating,
            flags=tuple(self.flags.splitlines()),
            spans=_criteria(self.spans),
            rationale=self.rationale,
            reasons=tuple(self.reasons.splitlines()) if self.rationale else (),
            corrections=self.corrections,
        )


def _criteria(lines: str) -> tuple[Criterion, ...]:
    """One for each line, with what stands after its first colon as help."""
    parts = [line.partition(":") for line in lines.splitlines()]
    return tuple(Criterion(name=part[0].strip(), help=part[2].strip()) for part in parts)


def _lines(criteria: tuple[Criterion, ...]) -> str:
    """As they are written in the form."""
    return "\n".join(f"{each.name}: {each.help}" if each.help else each.name for each in criteria)


def typed_for_asked(asked: Asked) -> dict[str, Any]:
    """The part of the form that asks beside the verdict, filled in."""
    typed = asked.model_dump(mode="json", exclude={"criteria", "flags", "spans", "reasons"})
    return {
        **typed,
        "criteria": _lines(asked.criteria),
        "flags": "\n".join(asked.flags),
        "spans": _lines(asked.spans),
        "reasons": "\n".join(asked.reasons),
    }


def _text_of_an_example(value: str) -> str:
    """The text as it is kept; a field counts a line end once, and sends two characters for it."""
    text = value.replace("\r\n", "\n").strip()
    if len(text) > LONGEST_EXAMPLE:
        raise ValueError(_("Keep it to %(most)s characters.", most=f"{LONGEST_EXAMPLE:,}"))
    return text


ExampleText = Annotated[str, AfterValidator(_text_of_an_example)]


class ExampleForm(BaseModel):
    """An example as a manager writes it; one in which nothing is written is none."""

    prompt: ExampleText = ""
    good: ExampleText = ""
    bad: ExampleText = ""
    why: ExampleText = ""

    @property
    def is_blank(self) -> bool:
        """Whether nothing is written in it."""
        return not (self.prompt or self.good or self.bad or self.why)

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        wrong = {}
        if not self.is_blank and not self.prompt:
            wrong["prompt"] = _("Say what was asked.")
        if not self.is_blank and not (self.good or self.bad):
            wrong["good"] = _("Write a good completion here, or a bad one beside it.")
        if wrong:
            errors = [
                InitErrorDetails(
                    type=PydanticCustomError("value_error", "{error}", {"error": each}), loc=(name,), input="?"
                )
                for name, each in wrong.items()
            ]
            raise ValidationError.from_exception_data("ExampleForm", errors)
        return self


class QuestionForm(AskedForm):
    """All that annotators are told and asked, and of how many completions."""

    guidelines: Text = ""
    examples: list[ExampleForm] = []
    ties_allowed: Checkbox = False
    all_bad_allowed: Checkbox = False
    completions_per_comparison: Annotated[int, Field(ge=2, le=9)] = 2

    @field_validator("examples", mode="before")
    @classmethod
    def _are_read(cls, value: list[Any]) -> list[Any]:
        if len(value) > MOST_EXAMPLES:
            raise ValueError(_("At most %(most)s examples: more are not read.", most=MOST_EXAMPLES))
        return value

    def question(self) -> Question:
        """The part that makes a new revision."""
        asked = self.asked()
        return Question(
            guidelines=self.guidelines,
            examples=[example.model_dump() for example in self.examples if not example.is_blank],
            ties_allowed=self.ties_allowed,
            all_bad_allowed=self.all_bad_allowed,
            criteria=[criterion.model_dump() for criterion in asked.criteria],
            scales=asked.scales(),
        )


class CampaignForm(QuestionForm):
    """Everything that is set about a campaign, in one form. Switches that are off are absent."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME)]
    kind: Literal[CampaignKind.COMPARISON, CampaignKind.DEMONSTRATION] = CampaignKind.COMPARISON
    """What a new campaign is for; of one that is there it stays."""
    source: str
    comparisons_per_prompt: Annotated[int, Field(ge=1, le=100)]
    redundancy: Annotated[int, Field(ge=1, le=25)]
    samples_drawn: Annotated[int, Field(ge=2, le=MOST_SAMPLES)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1, le=4096)]
    system_prompt: Text = ""
    content_warning: Annotated[str, Field(max_length=2000)] = ""
    editable_days: Annotated[int, Field(ge=0, le=3650)] = 7
    turns_over: Checkbox = False
    begins_with_draft: Checkbox = False
    picks_uncertain: Checkbox = False

    @field_validator("source")
    @classmethod
    def _is_a_choice(cls, value: str) -> str:
        try:
            read_source_key(value)
        except ValueError:
            raise ValueError(_("Choose one of the models offered.")) from None
        return value

    @field_validator("begins_with_draft")
    @classmethod
    def _has_a_model(cls, value: bool, info: ValidationInfo) -> bool:
        source = read_source_key(info.data["source"]) if "source" in info.data else None
        is_writing = info.data.get("kind") is CampaignKind.DEMONSTRATION
        if value and is_writing and source is not None and source[1:] == (None, None):
            raise ValueError(_("Choose the model that writes the draft, under “Where completions come from”."))
        return value

    @field_validator("temperature")
    @classmethod
    def _makes_samples_differ(cls, value: float) -> float:
        if value == 0:
            raise ValueError(_("At 0 all samples are the same, and there is nothing to compare. Try 0.7 to 1."))
        return value

    @field_validator("samples_drawn")
    @classmethod
    def _are_enough(cls, value: int, info: ValidationInfo) -> int:
        shown = info.data.get("completions_per_comparison", 2)
        if value < shown:
            raise ValueError(_("Draw at least %(n)s: so many are shown side by side.", n=shown))
        return value

    def plan(self) -> CampaignPlan:
        """The part that may change in place."""
        line_id, alias, pinned_version_id = read_source_key(self.source)
        not_of_the_plan = {"kind", "source", *QuestionForm.model_fields} - {"completions_per_comparison"}
        given = self.model_dump(exclude=not_of_the_plan)
        return CampaignPlan(line_id=line_id, alias=alias, pinned_version_id=pinned_version_id, **given)


def typed_for(campaign: Campaign, revision: CampaignRevision) -> dict[str, Any]:
    """The form filled in with a campaign as it is."""
    typed = {name: getattr(campaign, name) for name in CampaignForm.model_fields if hasattr(campaign, name)}
    key = source_key(line_id=campaign.line_id, alias=campaign.alias, version_id=campaign.pinned_version_id)
    return {
        **typed,
        **typed_for_asked(asked_by(revision.criteria, revision.scales)),
        "source": key,
        "guidelines": revision.guidelines,
        "examples": revision.examples or [],
        "ties_allowed": revision.ties_allowed,
        "all_bad_allowed": revision.all_bad_allowed,
    }


def typed_with_rows(typed: dict[str, Any]) -> dict[str, Any]:
    """What was typed, with the row more or less that a button in `rows` asked for: `add` or `remove-2`."""
    verb, _dash, number = str(typed.get("rows", "")).partition("-")
    examples = list(typed.get("examples", []))
    if verb == "add" and len(examples) < MOST_EXAMPLES:
        examples.append({})
    places = [str(place) for place in range(1, len(examples) + 1)]
    if verb == "remove" and number in places:
        del examples[places.index(number)]
    return {**typed, "examples": examples}


def typed_guidance(typed: dict[str, Any]) -> Guidance:
    """Guidelines and examples as they stand in a form that is being filled in."""
    written = [row for row in typed.get("examples", []) if any(str(text).strip() for text in row.values())]
    return guidance(str(typed.get("guidelines", "")), [{"prompt": "", **row} for row in written[:MOST_EXAMPLES]])


def typed_for_new(source: str) -> dict[str, Any]:
    """The form as a new campaign starts out."""
    plan = CampaignPlan(name="")
    typed = {name: getattr(plan, name) for name in CampaignForm.model_fields if hasattr(plan, name)}
    return {**typed, "source": source, "guidelines": "", "ties_allowed": True, "all_bad_allowed": True}


class PartForm(BaseModel):
    """What a person does and may see in a campaign."""

    judges: Checkbox = False
    access: Access = Access.NONE


class EnrolmentForm(PartForm):
    """Somebody to take into a campaign, by email."""

    email: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]

    @field_validator("email")
    @classmethod
    def _is_an_email(cls, value: str) -> str:
        if problem := email_problem(value):
            raise ValueError(problem)
        return value
