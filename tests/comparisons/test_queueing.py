"""Comparisons are made ahead, of distinct samples, by the version that serves; and give way after a deployment."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.campaigns.models import Campaign, CampaignState
from app.comparisons.models import CampaignQueue, Comparison, ComparisonState, QueueState, Slot
from app.comparisons.service.desk import hold_desk
from app.comparisons.service.drafting import Draft
from app.comparisons.service.leasing import lease_next
from app.comparisons.service.presenting import present_desk
from app.comparisons.service.queueing import fill_queue, next_draft, request_fill
from app.comparisons.service.storing import store_comparison
from app.comparisons.service.turning_over import turn_over
from app.generation.completions_client import Drawn
from app.generation.models import PromptState
from app.settings import Settings
from tests.conftest import NOW, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.deployments import deploy, make_version
from tests.factories.desks import make_desk
from tests.factories.generation import make_prompt
from tests.queued import queued


def drawn(*texts: str) -> list[Drawn]:
    """What a model server would return."""
    return [Drawn(text, "stop", 7, [1, 2], 2, 5, "template", "tokenizer") for text in texts]


def draft_of(session: Session, campaign: Campaign, target: int = 10) -> Draft:
    draft = next_draft(session, campaign_id=campaign.id, target=target, now=NOW)
    assert draft is not None
    return draft


def make_comparison_of(session: Session, campaign: Campaign, *texts: str) -> Comparison | None:
    return store_comparison(
        session, draft=draft_of(session, campaign), drawn=drawn(*texts), campaign_id=campaign.id, now=NOW
    )


def queue_state(session: Session, campaign: Campaign) -> QueueState:
    return session.scalars(
        select(CampaignQueue.state).where(CampaignQueue.campaign_id == campaign.id),
        execution_options={"populate_existing": True},
    ).one()


def test_a_comparison_shows_the_samples_that_differ_most_and_has_a_slot_per_judgment(session: Session) -> None:
    campaign = make_campaign(session, redundancy=3)
    make_prompt(session, campaign)
    comparison = make_comparison_of(
        session, campaign, "Red it is.", "red it is. ", "Red it is not.", "Something else altogether."
    )
    assert comparison is not None
    texts = [member.completion.text for member in comparison.members]
    assert texts == ["Red it is.", "Something else altogether."]
    assert [slot.number for slot in comparison.slots] == [1, 2, 3]
    kept = comparison.members[0].completion
    assert (kept.seed, kept.token_ids, kept.tokenizer_sha256, kept.temperature) == (7, [1, 2], "tokenizer", 0.9)


def test_a_prompt_is_set_aside_after_three_draws_without_enough_distinct_samples(session: Session) -> None:
    campaign = make_campaign(session)
    prompt = make_prompt(session, campaign)
    for _ in range(3):
        assert prompt.state is PromptState.ACTIVE
        assert make_comparison_of(session, campaign, "Same.", "same.", " SAME. ", "Same.") is None
    assert prompt.state is PromptState.SET_ASIDE
    assert "3 draws of 4 samples each gave fewer than 2 that differ" in prompt.state_reason
    assert next_draft(session, campaign_id=campaign.id, target=10, now=NOW) is None
    assert queue_state(session, campaign) is QueueState.RUN_OUT


def test_prompts_get_no_more_comparisons_than_the_campaign_wants(session: Session) -> None:
    campaign = make_campaign(session, comparisons_per_prompt=2)
    make_prompt(session, campaign)
    stale = draft_of(session, campaign)
    for _ in range(2):
        assert make_comparison_of(session, campaign, "One.", "Two.") is not None
    assert next_draft(session, campaign_id=campaign.id, target=10, now=NOW) is None
    late = store_comparison(session, draft=stale, drawn=drawn("a", "b"), campaign_id=campaign.id, now=NOW)
    assert late is None, "another run made the last one meanwhile"


def test_nothing_is_made_beyond_the_target_or_for_a_paused_campaign(session: Session) -> None:
    campaign = make_campaign(session)
    make_prompt(session, campaign)
    make_prompt(session, campaign)
    make_comparison_of(session, campaign, "One.", "Two.")
    assert next_draft(session, campaign_id=campaign.id, target=1, now=NOW) is None
    assert queue_state(session, campaign) is QueueState.READY
    campaign.state = CampaignState.PAUSED
    assert next_draft(session, campaign_id=campaign.id, target=10, now=NOW) is None


def test_whoever_is_ahead_of_the_others_gets_more_though_many_slots_are_free(session: Session) -> None:
    campaign = make_campaign(session, redundancy=3)
    for _ in range(3):
        make_prompt(session, campaign)
    make_comparison_of(session, campaign, "One.", "Two.")
    make_comparison_of(session, campaign, "Three.", "Four.")
    assert next_draft(session, campaign_id=campaign.id, target=2, now=NOW) is None
    desk = make_desk(session, campaign)
    desk.judge(desk.take())
    assert is_low(session, campaign, below=2)
    assert draft_of(session, campaign, target=2)


def test_comparisons_of_a_retired_prompt_are_not_ahead_of_anybody(session: Session) -> None:
    campaign = make_campaign(session)
    retired = make_prompt(session, campaign)
    make_comparison_of(session, campaign, "One.", "Two.")
    make_prompt(session, campaign)
    retired.state = PromptState.RETIRED
    session.flush()
    assert draft_of(session, campaign, target=1).prompt_id != retired.id


def test_how_many_more_the_prompts_allow_is_kept_count_of(session: Session) -> None:
    campaign = make_campaign(session, comparisons_per_prompt=3)
    for _ in range(2):
        make_prompt(session, campaign)
    make_comparison_of(session, campaign, "One.", "Two.")
    next_draft(session, campaign_id=campaign.id, target=1, now=NOW)
    session.expire_all()
    assert session.get_one(CampaignQueue, campaign.id).to_make == 5


def test_a_campaign_on_imported_completions_asks_no_model(session: Session) -> None:
    campaign = make_campaign(session)
    campaign.alias = None
    session.flush()
    assert not is_low(session, campaign, below=5)


def test_samples_of_a_version_that_no_longer_serves_are_not_stored(session: Session) -> None:
    campaign = make_campaign(session)
    make_prompt(session, campaign)
    draft = draft_of(session, campaign)
    assert campaign.line is not None
    deploy(session, make_version(session, campaign.line))
    late = store_comparison(session, draft=draft, drawn=drawn("a", "b"), campaign_id=campaign.id, now=NOW)
    assert late is None
    assert draft_of(session, campaign).version_name.endswith("-v1")


def test_the_system_prompt_goes_before_the_prompt(session: Session) -> None:
    campaign = make_campaign(session, system_prompt="Be kind.")
    make_prompt(session, campaign, "Hello?")
    assert draft_of(session, campaign).messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
    ]


def test_after_a_deployment_only_what_nobody_holds_or_judged_is_dropped(session: Session) -> None:
    campaign = make_campaign(session, comparisons_per_prompt=3)
    make_prompt(session, campaign)
    made = [make_comparison_of(session, campaign, "One.", f"Two {number}.") for number in range(3)]
    annotator = make_user(session)
    enrol(session, annotator, campaign)
    hold_desk(session, annotator_id=annotator.id)
    lease = lease_next(
        session, campaign_id=campaign.id, annotator_id=annotator.id, lasts=timedelta(minutes=15), now=NOW
    )
    assert lease is not None
    assert campaign.line is not None
    deploy(session, make_version(session, campaign.line))

    assert turn_over(session, line_id=campaign.line.id, now=NOW) == 2
    session.expire_all()
    states = {each.id: session.get_one(Comparison, each.id).state for each in made if each is not None}
    assert states.pop(lease.comparison_id) is ComparisonState.OPEN
    assert set(states.values()) == {ComparisonState.DROPPED}
    assert session.scalar(select(func.count()).select_from(Slot).where(Slot.campaign_id == campaign.id)) == 1
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]
    assert draft_of(session, campaign).version_name.endswith("-v1"), "made anew by the new version"


def test_a_campaign_may_keep_what_the_older_version_wrote(session: Session) -> None:
    campaign = make_campaign(session, turns_over=False)
    make_prompt(session, campaign)
    make_comparison_of(session, campaign, "One.", "Two.")
    assert campaign.line is not None
    deploy(session, make_version(session, campaign.line))
    assert turn_over(session, line_id=campaign.line.id, now=NOW) == 0


def test_a_low_queue_is_refilled_once(session: Session) -> None:
    campaign = make_campaign(session)
    make_prompt(session, campaign)
    assert is_low(session, campaign, below=5)
    for _ in range(2):
        request_fill(session, campaign_id=campaign.id)
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]


def test_a_queue_that_has_run_out_is_left_alone(session: Session) -> None:
    campaign = make_campaign(session)
    assert next_draft(session, campaign_id=campaign.id, target=10, now=NOW) is None
    assert not is_low(session, campaign, below=5)


def is_low(session: Session, campaign: Campaign, *, below: int) -> bool:
    """What an annotator's desk says of the queue."""
    desk = make_desk(session, campaign)
    return present_desk(
        session, campaign_id=campaign.id, annotator_id=desk.annotator_id, lease=None, now=NOW, low_below=below
    ).is_low


@pytest.fixture
def place(settings: Settings, session_factory: sessionmaker[Session], clock: StoppedClock) -> Workplace:
    return Workplace(settings=settings, session_factory=session_factory, clock=clock)


def test_a_model_server_that_is_down_stalls_the_queue_with_its_reason(session: Session, place: Workplace) -> None:
    settings = place.settings.model_copy(update={"model_server_url": "http://127.0.0.1:9"})
    campaign = make_campaign(session)
    make_prompt(session, campaign)
    session.commit()
    fill_queue(Workplace(settings, place.session_factory, place.clock), campaign_id=campaign.id)
    session.expire_all()
    queue = session.get_one(CampaignQueue, campaign.id)
    assert queue.state is QueueState.STALLED
    assert "does not answer" in queue.message
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})], "it tries again later"


def test_a_request_waits_once_however_often_it_is_made(session: Session) -> None:
    for _ in range(3):
        request_fill(session, campaign_id=1)
    assert len(queued(session)) == 1
