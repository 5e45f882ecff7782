"""Forms of campaigns, with messages for the people who fill them in."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from app.accounts.credentials import email_problem
from app.campaigns.models import Access, Campaign, CampaignRevision
from app.campaigns.service.editing import LONGEST_NAME, LONGEST_TEXT, CampaignPlan, Question
from app.campaigns.service.sources import read_source_key, source_key
from app.wording import gettext as _

MOST_SAMPLES = 16
"""Samples drawn per comparison; more would make people wait for little."""

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


def _is_on(value: Any) -> bool:
    return value in {True, "true", "on", "1"}


Checkbox = Annotated[bool, BeforeValidator(_is_on)]


class CampaignForm(BaseModel):
    """Everything that is set about a campaign, in one form. Switches that are off are absent."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_NAME)]
    guidelines: Text = ""
    ties_allowed: Checkbox = False
    all_bad_allowed: Checkbox = False
    source: str
    comparisons_per_prompt: Annotated[int, Field(ge=1, le=100)]
    redundancy: Annotated[int, Field(ge=1, le=25)]
    completions_per_comparison: Annotated[int, Field(ge=2, le=9)] = 2
    samples_drawn: Annotated[int, Field(ge=2, le=MOST_SAMPLES)]
    temperature: Annotated[float, Field(ge=0, le=2)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1, le=4096)]
    system_prompt: Text = ""
    turns_over: Checkbox = False

    @field_validator("source")
    @classmethod
    def _is_a_choice(cls, value: str) -> str:
        try:
            read_source_key(value)
        except ValueError:
            raise ValueError(_("Choose one of the models offered.")) from None
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
        not_of_the_plan = {"guidelines", "ties_allowed", "all_bad_allowed", "source"}
        given = self.model_dump(exclude=not_of_the_plan)
        return CampaignPlan(line_id=line_id, alias=alias, pinned_version_id=pinned_version_id, **given)

    def question(self, *, before: CampaignRevision | None = None) -> Question:
        """The part that makes a new revision; what the form does not ask stays as it was `before`."""
        return Question(
            guidelines=self.guidelines,
            ties_allowed=self.ties_allowed,
            all_bad_allowed=self.all_bad_allowed,
            criteria=before.criteria if before is not None else [],
            scales=before.scales if before is not None else {},
        )


def typed_for(campaign: Campaign, revision: CampaignRevision) -> dict[str, Any]:
    """The form filled in with a campaign as it is."""
    typed = {name: getattr(campaign, name) for name in CampaignForm.model_fields if hasattr(campaign, name)}
    key = source_key(line_id=campaign.line_id, alias=campaign.alias, version_id=campaign.pinned_version_id)
    return {
        **typed,
        "source": key,
        "guidelines": revision.guidelines,
        "ties_allowed": revision.ties_allowed,
        "all_bad_allowed": revision.all_bad_allowed,
    }


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
