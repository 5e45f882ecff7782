"""What the settings of a run and their choices are called: on the form, on the run's page and in comparisons."""

from collections.abc import Mapping

from app.training.schemas import TUNINGS, typed_weights
from app.wording import gettext as _
from app.wording import mark as N_
from app.wording import ngettext

TITLES: Mapping[str, str] = {
    "method": N_("Method"),
    "reference": N_("Reference"),
    "tuning": N_("What is trained"),
    "lora_rank": N_("Rank of a new adapter"),
    "lora_alpha": N_("Weight of a new adapter"),
    "lora_layers": N_("Top layers"),
    "merged": N_("Write an adapter merged into its base"),
    "learning_rate": N_("Learning rate"),
    "epochs": N_("Epochs"),
    "batch_comparisons": N_("Comparisons per step"),
    "warmup_fraction": N_("Warm-up"),
    "demonstration_epochs": N_("Epochs on demonstrations first"),
    "seed": N_("Seed"),
    "beta": N_("Beta"),
    "rankings": N_("Rankings of three or more"),
    "reliability": N_("Where people disagree"),
    "criteria_weights": N_("Weights of criteria"),
    "overall_weight": N_("Weight of the overall verdict"),
    "strength_margin": N_("Margin per level of strength"),
    "label_smoothing": N_("Label smoothing"),
    "gamma": N_("Gamma"),
    "reward_centring": N_("Centring of rewards"),
    "likelihood_weight": N_("Likelihood weight"),
    "drift_weight": N_("Drift weight"),
    "drift_skip_tokens": N_("Tokens free to drift"),
    "weight_decay": N_("Weight decay"),
    "max_grad_norm": N_("Largest gradient"),
    "max_tokens": N_("Most tokens of a prompt and its completion"),
    "stop_after_evaluations": N_("Patience"),
    "most_chosen_fall": N_("Fall that stops training"),
    "max_steps": N_("Most steps"),
    "max_seconds": N_("Most seconds of training"),
    "threads": N_("Threads"),
    "matrices": N_("Matrices are multiplied by"),
    "checkpoint_every_steps": N_("Steps between checkpoints"),
    "evaluate_every_steps": N_("Steps between evaluations"),
}

BY_SIZE = "by_size"
"""The learning rate of a run that has not come to choosing one."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "learning_rate": {BY_SIZE: N_("By the size of the model")},
    "tuning": {tuning.value: title for tuning, title in TUNINGS.items()},
    "rankings": {"plackett_luce": N_("Count as they are"), "pairs": N_("Count as pairs")},
    "reliability": {
        "ignore": N_("Every verdict counts the same"),
        "weight": N_("A contradicted verdict counts less"),
        "smoothing": N_("A contradicted verdict may be wrong"),
    },
}
"""The titles of the values that a setting may have."""


def titles() -> dict[str, str]:
    """Every setting's title by its name, in the reader's language."""
    return {name: _(title) for name, title in TITLES.items()}


def title_of(name: str) -> str:
    """A setting as people call it; one that is not known here, by its own name."""
    return _(TITLES[name]) if name in TITLES else name.replace("_", " ")


def choices_of(name: str) -> list[tuple[str, str]]:
    """The values that a setting may have, each with its title."""
    return [(value, _(title)) for value, title in CHOICES[name].items()]


def settled(hyperparameters: Mapping[str, object], report: Mapping[str, object] | None) -> dict[str, object]:
    """What was asked of a run, with the learning rate that it chose by size in the place of one that nobody chose."""
    asked = dict(hyperparameters)
    if asked.get("learning_rate") is None:
        asked["learning_rate"] = (report or {}).get("learning_rate") or BY_SIZE
    return asked


def told(name: str, value: object) -> str:
    """A setting's value as people read it; a dash for one that is not set."""
    if value is None or value == {}:
        return "–"
    if isinstance(value, dict):
        return typed_weights(value)
    if name == "stop_after_evaluations":
        return _patience(int(str(value)))
    if name == "most_chosen_fall":
        return _("%(count)s nats per token", count=_number(value))
    title = CHOICES.get(name, {}).get(str(value))
    return _(title) if title else _number(value)


def _patience(evaluations: int) -> str:
    if not evaluations:
        return _("without end")
    return ngettext(
        "%(num)s evaluation without a rise of held-out accuracy",
        "%(num)s evaluations without a rise of held-out accuracy",
        evaluations,
    )


def _number(value: object) -> str:
    """A number without needless digits; whether it is so, of a truth value."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return f"{value:.12g}" if isinstance(value, float) else str(value)
