"""Writing, editing and revising campaigns."""

from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.audit import AuditEntry
from app.campaigns.access import find_enrolment
from app.campaigns.models import Access, Campaign, CampaignState
from app.campaigns.service import (
    CampaignPlan,
    Question,
    create_campaign,
    current_revision,
    edit_campaign,
    revise_campaign,
)
from app.deployments.models import Alias
from app.errors import Conflict, Invalid
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_line, make_version
from tests.queued import queued


def plan_of(campaign: Campaign) -> CampaignPlan:
    return CampaignPlan(**{name: getattr(campaign, name) for name in CampaignPlan.__dataclass_fields__})


def test_a_new_campaign_is_a_draft_with_one_revision_managed_and_judged_by_its_creator(session: Session) -> None:
    manager, line = make_user(session, Role.MANAGER), make_line(session)
    campaign = create_campaign(
        session,
        plan=CampaignPlan(name="  Kind   words ", line_id=line.id, alias=Alias.CURRENT),
        question=Question(guidelines="Prefer *kindness*.\r\n"),
        by_id=manager.id,
        now=NOW,
    )
    assert (campaign.name, campaign.state) == ("Kind words", CampaignState.DRAFT)
    revision = current_revision(session, campaign.id)
    assert (revision.number, revision.guidelines) == (1, "Prefer *kindness*.")
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=manager.id)
    assert enrolment is not None
    assert (enrolment.judges, enrolment.access) == (True, Access.MANAGE)
    assert session.scalars(select(AuditEntry.action)).all() == ["campaign.created"]


def test_a_campaign_of_the_system_itself_enrols_nobody(session: Session) -> None:
    campaign = create_campaign(session, plan=CampaignPlan(name="Starter"), question=Question(), by_id=None, now=NOW)
    assert campaign.created_by_id is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": " "}, "Give the campaign a name"),
        ({"samples_drawn": 1}, "Draw at least 2 samples"),
        ({"line_id": None}, "Name the line"),
        ({"line_id": 987_654}, "no such model line"),
        ({"alias": None, "pinned_version_id": 987_654}, "no such version"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_words(session: Session, wrong: dict[str, object], said: str) -> None:
    plan = CampaignPlan(name="Kind words", line_id=make_line(session).id, alias=Alias.CURRENT)
    with pytest.raises(Invalid, match=said):
        create_campaign(session, plan=replace(plan, **wrong), question=Question(), by_id=None, now=NOW)


def test_a_version_of_another_line_cannot_be_pinned(session: Session) -> None:
    version = make_version(session, make_line(session))
    plan = CampaignPlan(name="Kind words", line_id=make_line(session).id, pinned_version_id=version.id)
    with pytest.raises(Invalid, match="no such version in this line"):
        create_campaign(session, plan=plan, question=Question(), by_id=None, now=NOW)


def test_only_a_changed_question_makes_a_new_revision(session: Session) -> None:
    campaign = make_campaign(session)
    asked = Question(guidelines="Prefer what helps.")
    first = current_revision(session, campaign.id)
    assert revise_campaign(session, campaign=campaign, question=asked, by_id=None, now=NOW).id == first.id
    no_ties = replace(asked, ties_allowed=False)
    second = revise_campaign(session, campaign=campaign, question=no_ties, by_id=None, now=NOW)
    assert (second.number, second.ties_allowed) == (2, False)
    criteria = replace(no_ties, criteria=[{"name": "honest", "help": "Says what is true."}])
    assert revise_campaign(session, campaign=campaign, question=criteria, by_id=None, now=NOW).number == 3
    assert revise_campaign(session, campaign=campaign, question=criteria, by_id=None, now=NOW).number == 3
    assert first.ties_allowed is True, "earlier revisions stay as they were"
    assert current_revision(session, campaign.id).number == 3


def test_the_model_line_is_fixed_once_the_campaign_was_opened(session: Session) -> None:
    campaign = make_campaign(session, opened_at=NOW)
    other = make_line(session)
    with pytest.raises(Conflict, match="its judgments belong to its model line"):
        edit_campaign(
            session, campaign=campaign, plan=replace(plan_of(campaign), line_id=other.id), by_id=None, now=NOW
        )


def test_an_open_campaign_whose_model_changed_is_drawn_anew(session: Session) -> None:
    campaign = make_campaign(session, opened_at=NOW)
    assert campaign.line is not None
    version = make_version(session, campaign.line)
    pinned = replace(plan_of(campaign), alias=None, pinned_version_id=version.id)
    assert edit_campaign(session, campaign=campaign, plan=pinned, by_id=None, now=NOW)
    assert queued(session) == [
        ("comparisons:turn_over", {"line_id": campaign.line_id}),
        ("comparisons:fill_queue", {"campaign_id": campaign.id}),
    ]
    assert not edit_campaign(session, campaign=campaign, plan=pinned, by_id=None, now=NOW), "nothing changed"
    deed = session.scalars(select(AuditEntry).where(AuditEntry.action == "campaign.edited")).one()
    assert deed.details["changed"] == {"alias": None, "pinned_version_id": version.id}


def test_a_closed_campaign_is_not_edited(session: Session) -> None:
    campaign = make_campaign(session, state=CampaignState.CLOSED)
    with pytest.raises(Conflict, match="closed"):
        edit_campaign(session, campaign=campaign, plan=plan_of(campaign), by_id=None, now=NOW)
    with pytest.raises(Conflict, match="closed"):
        revise_campaign(session, campaign=campaign, question=Question(guidelines="New."), by_id=None, now=NOW)
