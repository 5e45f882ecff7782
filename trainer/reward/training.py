"""How the common loop trains a reward model: as a policy whose log-ratio to its reference is the reward.

With beta 1, DPO's loss of a pair is then Bradley and Terry's, and the likelihood of a ranking Plackett and Luce's.
"""

from __future__ import annotations

from trainer.contract.run import Hyperparameters, RunRequest


def as_reward_request(request: RunRequest) -> RunRequest:
    """The request without what a reward model does not have: a reference to keep to, completions to keep likely."""
    return request.model_copy(update={"hyperparameters": as_reward_settings(request.hyperparameters)})


def as_reward_settings(settings: Hyperparameters) -> Hyperparameters:
    """The settings that apply; rewards are in nats, so `beta` is 1."""
    others = {"likelihood_weight": 0.0, "drift_weight": 0.0, "demonstration_epochs": 0.0}
    return settings.model_copy(update={"beta": 1.0, **others})
