"""Having a model write what the next comparison is made of: samples, and what a reward model thinks of them.

No transaction is open meanwhile, for a model takes its time.
"""

import logging
from dataclasses import dataclass
from typing import Any

from app.background import Workplace
from app.deployments.model_server import ModelServerDown, ModelServerRefused, connected, ensure_serving
from app.deployments.models import Endpoint, ModelVersion
from app.generation.completions_client import Drawn, Sampling, VersionForgotten, draw_completions
from app.generation.elsewhere import draw_elsewhere
from trainer.contract.base import Message
from trainer.contract.server import LoadVersion, RewardTexts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """What the next comparison of a campaign is made from, read in one transaction."""

    prompt_id: int
    messages: list[dict[str, Any]]
    version_id: int
    version_name: str
    endpoint: Endpoint | None
    """Where the version is asked if it lies elsewhere."""
    sampling: Sampling
    samples: int
    count: int
    """Completions to show, K; one, for people to begin with."""
    reward_model: LoadVersion | None = None
    """Helps to choose those that are shown; None where they are chosen without."""


def drawn_for(place: Workplace, draft: Draft) -> list[Drawn]:
    """Samples of the draft's version; a model server of ours that has forgotten it is taught it once."""
    if draft.endpoint is not None:
        return draw_elsewhere(
            place.settings, draft.endpoint, messages=draft.messages, count=draft.samples, sampling=draft.sampling
        )

    def ask() -> list[Drawn]:
        return draw_completions(
            place.settings,
            version_name=draft.version_name,
            messages=draft.messages,
            count=draft.samples,
            sampling=draft.sampling,
        )

    try:
        return ask()
    except VersionForgotten:
        with place.session_factory() as session:
            ensure_serving(place.settings, session, session.get_one(ModelVersion, draft.version_id))
        try:
            return ask()
        except VersionForgotten as error:
            raise ModelServerDown(error.message) from error


def rewards_of(place: Workplace, draft: Draft, drawn: list[Drawn]) -> list[float | None] | None:
    """What the reward model thinks of the samples; None where none is to help, or it cannot: nobody waits for it."""
    if draft.reward_model is None:
        return None
    prompt = [Message.model_validate(message) for message in draft.messages]
    wanted = RewardTexts(reward_model=draft.reward_model, prompt=prompt, texts=[sample.text for sample in drawn])
    try:
        with connected(place.settings) as server:
            return server.rewards(wanted)
    except (ModelServerDown, ModelServerRefused) as error:
        log.warning("Samples are chosen without %s: %s", draft.reward_model.name, error.message)
        return None
