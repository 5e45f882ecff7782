"""Prompts one by one, and lists of them."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import AuditEntry
from app.campaigns.models import CampaignState
from app.errors import Conflict, Invalid
from app.generation.models import PromptState, Split
from app.generation.normalising import split_of
from app.generation.service import prompts as service
from app.generation.service.prompts import (
    PromptFilter,
    add_prompt,
    list_prompts,
    list_tags,
    restore_prompt,
    retag_prompt,
    retire_prompt,
    try_all_again,
)
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.generation import make_prompt
from tests.queued import queued


def found(session: Session, campaign_id: int, **which: object) -> list[str]:
    """The texts that a filter finds, the oldest first."""
    page = list_prompts(session, campaign_id=campaign_id, which=PromptFilter(**which))  # type: ignore[arg-type]
    return [prompt.messages[-1]["content"] for prompt in reversed(page.prompts)]


def test_a_prompt_by_hand_has_the_split_of_its_text_and_fills_the_queue(session: Session) -> None:
    campaign, by = make_campaign(session), make_user(session)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
    prompt = add_prompt(session, campaign=campaign, messages=messages, tags=[" short ", "short"], by_id=by.id, now=NOW)
    assert (prompt.messages, prompt.tags) == (messages, ["short"])
    assert prompt.split is Split(split_of(prompt.text_sha256))
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]
    deed = session.scalars(select(AuditEntry)).one()
    assert (deed.action, deed.actor_id, deed.subject_id) == ("prompt.added", by.id, str(prompt.id))


def test_a_prompt_that_counts_as_the_same_is_refused_with_where_it_is(session: Session) -> None:
    campaign = make_campaign(session)
    first = make_prompt(session, campaign, "Who are you?", state=PromptState.RETIRED)
    with pytest.raises(Conflict, match=rf"number {first.id}, retired"):
        add_prompt(
            session, campaign=campaign, messages=[{"role": "user", "content": " who  ARE you? "}], by_id=None, now=NOW
        )


def test_what_cannot_be_a_prompt_is_refused_in_words(session: Session) -> None:
    campaign = make_campaign(session)
    with pytest.raises(Invalid, match="This cannot be a prompt: ends with a turn of the assistant"):
        add_prompt(
            session, campaign=campaign, messages=[{"role": "assistant", "content": "Hello"}], by_id=None, now=NOW
        )


def test_a_set_aside_prompt_is_tried_again_with_its_failures_forgotten(session: Session) -> None:
    campaign = make_campaign(session)
    given = {"state": PromptState.SET_ASIDE, "state_reason": "All samples were alike.", "failed_draws": 3}
    one, other = make_prompt(session, campaign, **given), make_prompt(session, campaign, **given)
    restore_prompt(session, prompt=one, by_id=None, now=NOW)
    assert (one.state, one.state_reason, one.failed_draws) == (PromptState.ACTIVE, "", 0)
    assert try_all_again(session, campaign=campaign, by_id=None, now=NOW) == 1
    session.refresh(other)
    assert (other.state, other.failed_draws) == (PromptState.ACTIVE, 0)
    assert try_all_again(session, campaign=campaign, by_id=None, now=NOW) == 0
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]


def test_a_retired_prompt_comes_back_when_restored(session: Session) -> None:
    prompt = make_prompt(session, make_campaign(session, state=CampaignState.PAUSED))
    for _ in range(2):
        retire_prompt(session, prompt=prompt, by_id=None, now=NOW)
    assert prompt.state is PromptState.RETIRED
    restore_prompt(session, prompt=prompt, by_id=None, now=NOW)
    assert prompt.state is PromptState.ACTIVE
    assert queued(session) == [], "the campaign is not open"
    actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["prompt.retired", "prompt.restored"]


def test_tags_are_replaced_and_tidied(session: Session) -> None:
    prompt = make_prompt(session, tags=["a"])
    retag_prompt(session, prompt=prompt, tags=["b ", "b", " ", "c  d"], by_id=None, now=NOW)
    assert prompt.tags == ["b", "c d"]
    with pytest.raises(Invalid, match="more than 100 characters"):
        retag_prompt(session, prompt=prompt, tags=["x" * 101], by_id=None, now=NOW)


def test_lists_are_narrowed_by_words_tag_and_state(session: Session) -> None:
    campaign = make_campaign(session)
    make_prompt(session, campaign, "Bake a cake", tags=["food"])
    make_prompt(session, campaign, "Bake 100% rye bread", tags=["food", "rye"])
    make_prompt(session, campaign, "Name a star", state=PromptState.RETIRED)
    make_prompt(session, make_campaign(session), "Bake elsewhere", tags=["food"])
    assert found(session, campaign.id) == ["Bake a cake", "Bake 100% rye bread", "Name a star"]
    assert found(session, campaign.id, search="bread BAKE") == ["Bake 100% rye bread"]
    assert found(session, campaign.id, search="0%") == ["Bake 100% rye bread"]
    assert found(session, campaign.id, search="b_ke") == [], "signs of LIKE mean themselves"
    assert found(session, campaign.id, search="user") == [], "only contents are searched"
    assert found(session, campaign.id, tag="food") == ["Bake a cake", "Bake 100% rye bread"]
    assert found(session, campaign.id, tag="food", search="cake") == ["Bake a cake"]
    assert found(session, campaign.id, state=PromptState.RETIRED) == ["Name a star"]
    assert list_tags(session, campaign_id=campaign.id) == [("food", 2), ("rye", 1)]


def test_long_lists_come_in_pages_the_newest_first(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PAGE_SIZE", 2)
    campaign = make_campaign(session)
    ids = [make_prompt(session, campaign).id for _ in range(5)]
    pages = {number: [1, 1, 2, 3, 3][number] for number in range(5)}
    for asked, given in pages.items():
        page = list_prompts(session, campaign_id=campaign.id, which=PromptFilter(), page=asked)
        assert (page.number, page.last_number, page.total) == (given, 3, 5)
        assert [prompt.id for prompt in page.prompts] == ids[::-1][(given - 1) * 2 : given * 2]
