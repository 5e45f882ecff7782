"""The queue filled by a real model server: what is stored of a completion, and what the server refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.campaigns.models import Campaign, CampaignKind
from app.comparisons.models import CampaignQueue, Comparison, ComparisonCompletion, QueueState, Slot
from app.comparisons.service.queueing import fill_queue
from app.comparisons.service.turning_over import turn_over
from app.generation.models import Completion, CompletionSource, PromptState
from app.generation.normalising import normalised
from app.settings import Settings
from tests.conftest import NOW, StoppedClock
from tests.deployments.conftest import ServerProcess, model_server, models, running_server, served_settings
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import deploy, make_line, make_version
from tests.factories.generation import make_prompt
from tests.queued import queued
from trainer.contract.files import weights_sha256

__all__ = ["model_server", "models", "running_server", "served_settings"]


@pytest.fixture
def place(served_settings: Settings, session_factory: sessionmaker[Session], clock: StoppedClock) -> Workplace:
    """Where the job works, with a model server that has been told nothing yet."""
    settings = served_settings.model_copy(update={"queue_target": 3})
    return Workplace(settings=settings, session_factory=session_factory, clock=clock)


@pytest.fixture
def campaign(session: Session, models: Path) -> Campaign:
    """A campaign on a line that writes nothing but a and b."""
    line = make_line(session, slug="tiny", deployed=False, path=str(models / "left"))
    version = make_version(session, line, path=str(models / "left"), sha256=weights_sha256(models / "left"))
    deploy(session, version)
    return make_campaign(session, line=line, max_tokens=12, system_prompt="Be brief.", redundancy=2)


def texts_by_version(session: Session) -> dict[str, set[str]]:
    """The letters that each version wrote, over all stored completions."""
    found: dict[str, set[str]] = {}
    for completion in session.scalars(select(Completion)):
        assert completion.model_version is not None
        found.setdefault(completion.model_version.name, set()).update(completion.text)
    return found


def test_the_queue_is_filled_by_a_model_server_that_has_to_be_taught_first(
    session: Session, place: Workplace, campaign: Campaign
) -> None:
    for number in range(4):
        make_prompt(session, campaign, f"Say {number}.")
    session.commit()
    for _ in range(2):  # a second run finds the queue full
        fill_queue(place, campaign_id=campaign.id)
    comparisons = session.scalars(select(Comparison)).all()
    assert len(comparisons) == 3
    assert len(session.scalars(select(Slot)).all()) == 6
    for comparison in comparisons:
        shown = [member.completion for member in comparison.members]
        assert len({normalised(completion.text) for completion in shown}) == 2
        for completion in shown:
            assert completion.source is CompletionSource.MODEL
            assert completion.model_version_id == comparison.model_version_id
            assert completion.finish_reason == "length"
            assert completion.completion_tokens == len(completion.token_ids or []) == 12
            assert completion.seed is not None
            assert completion.latency_ms is not None
            assert completion.chat_template_sha256
            assert completion.tokenizer_sha256
            assert (completion.temperature, completion.top_p, completion.max_tokens) == (0.9, 0.95, 12)
    queue = session.get_one(CampaignQueue, campaign.id, populate_existing=True)
    assert (queue.state, queue.to_make) == (QueueState.READY, 1)


def test_where_people_begin_with_a_draft_one_is_written_for_each_prompt(
    session: Session, place: Workplace, campaign: Campaign
) -> None:
    campaign.kind, campaign.begins_with_draft = CampaignKind.DEMONSTRATION, True
    for number in range(2):
        make_prompt(session, campaign, f"Say {number}.")
    session.commit()
    for _ in range(2):
        fill_queue(place, campaign_id=campaign.id)
    comparisons = session.scalars(select(Comparison)).all()
    assert [len(comparison.members) for comparison in comparisons] == [1, 1]
    assert {comparison.members[0].completion.source for comparison in comparisons} == {CompletionSource.MODEL}
    assert len(session.scalars(select(Slot)).all()) == 4
    assert session.get_one(CampaignQueue, campaign.id, populate_existing=True).state is QueueState.RUN_OUT


def test_the_same_generation_seed_draws_the_same_samples_again(
    session: Session, place: Workplace, campaign: Campaign
) -> None:
    for number in range(4):
        make_prompt(session, campaign, f"Say {number}.")
    session.commit()

    def drawn(seed: int) -> list[tuple[int, str]]:
        settings = place.settings.model_copy(update={"generation_seed": seed})
        fill_queue(replace(place, settings=settings), campaign_id=campaign.id)
        found = session.execute(select(Completion.prompt_id, Completion.text).order_by(Completion.id)).all()
        for table in (Slot, ComparisonCompletion, Comparison, Completion):
            session.execute(delete(table))
        session.commit()
        return [(prompt_id, text) for prompt_id, text in found]

    first = drawn(1)
    assert len(first) == 6
    assert drawn(1) == first
    assert drawn(2) != first


def test_after_a_deployment_the_new_version_writes_what_comes_next(
    session: Session, place: Workplace, campaign: Campaign, models: Path
) -> None:
    for number in range(3):
        make_prompt(session, campaign, f"Say {number}.")
    session.commit()
    fill_queue(place, campaign_id=campaign.id)
    assert campaign.line is not None
    right = make_version(session, campaign.line, path=str(models / "right"), sha256=weights_sha256(models / "right"))
    deploy(session, right)
    assert turn_over(session, line_id=campaign.line.id, now=NOW) == 3
    session.commit()
    fill_queue(place, campaign_id=campaign.id)
    session.expire_all()
    written = texts_by_version(session)
    assert written[right.name] <= set("yz")
    assert set().union(*(letters for name, letters in written.items() if name != right.name)) <= set("ab")
    waiting = session.scalars(select(Comparison).join(Slot)).unique().all()
    assert {comparison.model_version_id for comparison in waiting} == {right.id}


def test_a_prompt_too_long_for_the_model_is_set_aside_in_the_servers_words(
    session: Session, place: Workplace, campaign: Campaign
) -> None:
    long = make_prompt(session, campaign, "Read this. " * 60)
    short = make_prompt(session, campaign, "Say 1.")
    session.commit()
    fill_queue(place, campaign_id=campaign.id)
    session.expire_all()
    assert long.state is PromptState.SET_ASIDE
    assert "reads at most 128 tokens" in long.state_reason
    assert short.state is PromptState.ACTIVE
    assert len(session.scalars(select(Comparison)).all()) == 1


def test_a_queue_that_stalled_goes_on_once_the_model_server_is_back(
    session: Session, place: Workplace, campaign: Campaign, model_server: ServerProcess
) -> None:
    make_prompt(session, campaign, "Say 1.")
    session.commit()
    model_server.kill()
    try:
        fill_queue(place, campaign_id=campaign.id)
    finally:
        model_server.start()
    queue = session.get_one(CampaignQueue, campaign.id, populate_existing=True)
    assert queue.state is QueueState.STALLED
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]
    fill_queue(place, campaign_id=campaign.id)
    session.refresh(queue)
    assert (queue.state, queue.message, queue.failures) == (QueueState.RUN_OUT, "", 0)
    assert len(session.scalars(select(Comparison)).all()) == 1
