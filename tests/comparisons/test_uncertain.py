"""Comparisons whose samples a reward model helps to choose: by a real model server, recorded, and never waited for."""

import shutil
from pathlib import Path

import pytest
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.campaigns.models import Campaign
from app.comparisons.models import CampaignQueue, Comparison, QueueState
from app.comparisons.service.queueing import fill_queue, next_draft
from app.comparisons.service.storing import store_comparison
from app.deployments.models import ModelVersion, VersionKind
from app.deployments.service import base_version, register_version
from app.generation.completions_client import Sampling, draw_completions
from app.generation.distinct import most_distinct
from app.generation.models import Prompt
from app.generation.seeds import draw_seed
from app.generation.uncertain import is_kept_as_before, most_uncertain
from app.settings import Settings
from tests.comparisons.test_queueing import draft_of, drawn
from tests.conftest import NOW, StoppedClock
from tests.deployments.conftest import model_server, models, running_server, served_settings
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import deploy, make_line, make_version
from tests.factories.generation import make_prompt
from tests.factories.serving import random_model, save
from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.contract.files import weights_sha256
from trainer.reward.model import load_reward_model, write_reward_model

__all__ = ["model_server", "models", "running_server", "served_settings"]


@pytest.fixture
def campaign(session: Session, models: Path) -> Campaign:
    """A campaign that wants help, on a line that writes nothing but a and b."""
    line = make_line(session, slug="tiny", deployed=False, path=str(models / "left"))
    version = make_version(session, line, path=str(models / "left"), sha256=weights_sha256(models / "left"))
    deploy(session, version)
    return make_campaign(session, line=line, max_tokens=12, picks_uncertain=True, samples_drawn=6)


def give_reward_model(
    session: Session, campaign: Campaign, *, path: str = "/nowhere", sha256: str = ""
) -> ModelVersion:
    """A reward model for the campaign's line."""
    assert campaign.line_id is not None
    base = base_version(session, line_id=campaign.line_id)
    return register_version(
        session,
        parent=base,
        kind=VersionKind.FULL,
        path=path,
        sha256=sha256 or "0" * 64,
        now=NOW,
        is_reward_model=True,
        beats_chance=True,
    )


def prompts_of(session: Session, campaign: Campaign, *, kept_as_before: bool, count: int = 1) -> list[Prompt]:
    """So many prompts of either kind."""
    found: list[Prompt] = []
    number = 0
    while len(found) < count:
        number += 1
        prompt = make_prompt(session, campaign, f"Say {number}.")
        if is_kept_as_before(prompt.text_sha256) is kept_as_before:
            found.append(prompt)
        else:
            session.delete(prompt)
            session.flush()
    return found


def test_the_reward_model_is_asked_where_the_campaign_wants_it_but_for_one_prompt_in_four(session: Session) -> None:
    campaign = make_campaign(session, picks_uncertain=True)
    prompts_of(session, campaign, kept_as_before=False)
    assert draft_of(session, campaign).reward_model is None, "the line has none"
    version = give_reward_model(session, campaign)
    order = draft_of(session, campaign).reward_model
    assert order is not None
    assert (order.name, order.path) == (version.name, version.path)
    campaign.picks_uncertain = False
    assert draft_of(session, campaign).reward_model is None
    other = make_campaign(session, line=campaign.line, picks_uncertain=True)
    prompts_of(session, other, kept_as_before=True)
    assert draft_of(session, other).reward_model is None


def test_a_comparison_says_how_its_samples_were_chosen(session: Session) -> None:
    campaign = make_campaign(session, comparisons_per_prompt=3)
    make_prompt(session, campaign)
    texts = drawn("Red it is.", "Red it is not.", "Something else altogether.", "Blue.")
    shown = []
    for rewards in ([0.0, 1.0, 5.0, 5.1], [None, None, None, 1.0], None):
        comparison = store_comparison(
            session, draft=draft_of(session, campaign), drawn=texts, campaign_id=campaign.id, now=NOW, rewards=rewards
        )
        assert comparison is not None
        shown.append((comparison.picked, [member.completion.text for member in comparison.members]))
    assert shown[0] == ("uncertain", ["Something else altogether.", "Blue."])
    assert [picked for picked, _texts in shown[1:]] == ["distinct", "distinct"]
    assert shown[1][1] == shown[2][1]


def test_a_real_reward_model_chooses_the_samples_that_it_finds_hardest_to_tell_apart(
    *,
    session: Session,
    served_settings: Settings,
    session_factory: sessionmaker[Session],
    clock: StoppedClock,
    campaign: Campaign,
    models: Path,
) -> None:
    folder = models / "judge"
    start = save(models / "judge-start", random_model(seed=1, context=256))
    model, tokenizer = load_reward_model(start)
    torch.nn.init.normal_(model.get_submodule("score").weight, generator=torch.Generator().manual_seed(1))
    write_reward_model(model, tokenizer, folder, start=start, dtype=torch.float32)
    shutil.rmtree(start)
    give_reward_model(session, campaign, path=str(folder), sha256=weights_sha256(folder))
    prompts_of(session, campaign, kept_as_before=False, count=3)
    session.commit()
    settings = served_settings.model_copy(update={"queue_target": 3, "generation_seed": 5})
    place = Workplace(settings=settings, session_factory=session_factory, clock=clock)
    fill_queue(place, campaign_id=campaign.id)
    comparisons = session.scalars(select(Comparison)).all()
    assert [comparison.picked for comparison in comparisons] == ["uncertain"] * 3
    differs = 0
    for comparison in comparisons:
        seed = draw_seed(5, prompt_id=comparison.prompt_id, version_name="tiny-v1", made=0, failed=0)
        sampling = Sampling(temperature=campaign.temperature, top_p=campaign.top_p, max_tokens=12, seed=seed)
        messages = comparison.prompt.messages
        texts = [
            each.text
            for each in draw_completions(
                settings, version_name="tiny-v1", messages=messages, count=6, sampling=sampling
            )
        ]
        prompt = prompt_token_ids(tokenizer, [Message.model_validate(each) for each in messages])
        rows = [torch.tensor([[*prompt, *completion_token_ids(tokenizer, text)]]) for text in texts]
        with torch.no_grad():
            rewards = [float(model(input_ids=row).logits) for row in rows]
        expected = most_uncertain(texts, rewards, 2)
        assert expected is not None
        assert {member.completion.text for member in comparison.members} == {texts[index] for index in expected}
        differs += expected != most_distinct(texts, 2)
    assert differs, "it chose otherwise than without a reward model"
    shutil.rmtree(folder)


def test_nobody_waits_for_a_reward_model_that_cannot_be_asked(
    *,
    session: Session,
    served_settings: Settings,
    session_factory: sessionmaker[Session],
    clock: StoppedClock,
    campaign: Campaign,
) -> None:
    give_reward_model(session, campaign, path="/nowhere/at/all")
    prompts_of(session, campaign, kept_as_before=False, count=2)
    session.commit()
    settings = served_settings.model_copy(update={"queue_target": 2})
    fill_queue(Workplace(settings=settings, session_factory=session_factory, clock=clock), campaign_id=campaign.id)
    assert [each.picked for each in session.scalars(select(Comparison))] == ["distinct"] * 2
    assert session.get_one(CampaignQueue, campaign.id, populate_existing=True).state is QueueState.RUN_OUT
    assert next_draft(session, campaign_id=campaign.id, target=5, now=NOW) is None
