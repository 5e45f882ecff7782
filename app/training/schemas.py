"""The forms of training and of model lines."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from app.deployments.endpoints import LONGEST_ADDRESS, MOST_AT_ONCE, Asking
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.run import Budget, Hyperparameters, Method, Tuning

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
    Method.KTO: N_("KTO, completions by themselves"),
    Method.BCO: N_("BCO, completions by themselves"),
    Method.SFT: N_("Demonstrations alone (SFT)"),
    Method.REWARD_MODEL: N_("Reward model"),
}
"""What people call them."""


TUNINGS = {
    Tuning.AUTO: N_("By the size of the model"),
    Tuning.FULL: N_("All weights"),
    Tuning.LORA: N_("LoRA, an adapter"),
    Tuning.LORA_TOP: N_("LoRA in the top layers"),
}
"""What people call what is trained."""


def method_title(method: str) -> str:
    """A method as people call it."""
    return _(METHODS[Method(method)])


def read_weights(given: object) -> object:
    """Weights as people type them, `helpful 1, honest 0.5`, by name; anything else as it is. Raises ValueError."""
    if not isinstance(given, str):
        return given
    weights: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in re.split(r"[,;\n]", given))):
        name, _space, number = part.replace("=", " ").rpartition(" ")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            name = ""
        if not name.strip() or weights[name.strip()] < 0:
            raise ValueError(_("“%(part)s” is no criterion and its weight. Write: helpful 1, honest 0.5", part=part))
    return weights


def typed_weights(weights: Mapping[str, float]) -> str:
    """Weights as `read_weights` takes them."""
    return ", ".join(f"{name} {weight:g}" for name, weight in weights.items())


class RunForm(Hyperparameters):
    """What the *Train* form asks; every field has a default, so that the button alone is enough."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    criteria_weights: Annotated[dict[str, Annotated[float, Field(ge=0)]], BeforeValidator(read_weights)] = Field({})
    stop_after_evaluations: Annotated[int, Field(ge=0)] = 0
    most_chosen_fall: Annotated[float, Field(gt=0)] = Budget().most_chosen_fall or 1.0

    method: Method = Method.DPO
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    start: Literal["base", "current"] = "base"
    holds_back: bool = False
    """Whether a version that passes the gate waits for somebody to deploy it."""

    @field_validator("method")
    @classmethod
    def _goes_with_tuning(cls, method: Method, info: ValidationInfo) -> Method:
        if method is Method.REWARD_MODEL and info.data.get("tuning") in {Tuning.LORA, Tuning.LORA_TOP}:
            raise ValueError(
                _("A reward model trains all weights. Choose “All weights”, or “By the size of the model”, below.")
            )
        return method

    def hyperparameters(self) -> Hyperparameters:
        """The part that goes to the trainer."""
        return Hyperparameters(**{name: getattr(self, name) for name in Hyperparameters.model_fields})

    def budget(self) -> Budget:
        """Where training is to stop at the latest."""
        return Budget(stop_after_evaluations=self.stop_after_evaluations, most_chosen_fall=self.most_chosen_fall)

    def typed(self) -> dict[str, object]:
        """What stands in the form's fields."""
        rate = "" if self.learning_rate is None else self.learning_rate
        return {**self.model_dump(), "learning_rate": rate, "criteria_weights": typed_weights(self.criteria_weights)}


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
