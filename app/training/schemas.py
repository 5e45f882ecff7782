"""The forms of training and of model lines."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from app.deployments.endpoints import LONGEST_ADDRESS, MOST_AT_ONCE, Asking
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.run import Hyperparameters, Method, Tuning

METHODS = {
    Method.DPO: N_("DPO"),
    Method.DPO_NORMALISED: N_("DPO by token"),
    Method.ROBUST_DPO: N_("DPO, robust to wrong verdicts"),
    Method.IPO: N_("IPO"),
    Method.HINGE: N_("Hinge (SLiC)"),
    Method.SIMPO: N_("SimPO"),
    Method.ORPO: N_("ORPO"),
    Method.APO_ZERO: N_("APO zero"),
    Method.APO_DOWN: N_("APO down"),
}
"""What people call them."""


TUNINGS = {
    Tuning.AUTO: N_("By the size of the model"),
    Tuning.FULL: N_("All weights"),
    Tuning.LORA: N_("LoRA, an adapter"),
    Tuning.LORA_TOP: N_("LoRA in the top layers"),
}
"""What people call what is trained."""


def tuning_titles() -> list[tuple[str, str]]:
    """What can be trained, as people call it."""
    return [(tuning.value, _(title)) for tuning, title in TUNINGS.items()]


def method_title(method: str) -> str:
    """A method as people call it."""
    return _(METHODS[Method(method)])


class RunForm(Hyperparameters):
    """What the *Train* form asks; every field has a default, so that the button alone is enough."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: Method = Method.DPO
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    start: Literal["base", "current"] = "base"
    holds_back: bool = False
    """Whether a version that passes the gate waits for somebody to deploy it."""

    def hyperparameters(self) -> Hyperparameters:
        """The part that goes to the trainer."""
        return Hyperparameters(**{name: getattr(self, name) for name in Hyperparameters.model_fields})


class OverrideForm(BaseModel):
    """Why a refused version should serve; the service says what is enough."""

    reason: str = ""


class DeployForm(BaseModel):
    """Which version should serve."""

    version_id: int
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = ""


class ScheduleForm(BaseModel):
    """After how many new judgments a line trains by itself; nothing, or `off`, for by hand alone."""

    every: int | None = None
    off: bool = False


class NewLineForm(BaseModel):
    """What every new line is called."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    slug: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""

    @field_validator("slug")
    @classmethod
    def _is_plain(cls, slug: str) -> str:
        if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", slug) is None:
            raise ValueError(
                _("Use lower-case letters, digits and dashes only, at most 40, not beginning with a dash.")
            )
        return slug


class LineForm(NewLineForm):
    """A model folder on disk, to be a line."""

    path: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    is_toy: bool = False


class AskingForm(BaseModel):
    """How another server is asked; the service says what will not do."""

    base_url: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_ADDRESS)]
    key_variable: Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)] = ""
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 4
    gives_n: bool = False

    def asking(self) -> Asking:
        """The same as a value of the domain."""
        names = ("base_url", "key_variable", "concurrency", "gives_n")
        return Asking(**{name: getattr(self, name) for name in names})


class EndpointForm(AskingForm, NewLineForm):
    """A model on another server, to be a line."""

    model: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
