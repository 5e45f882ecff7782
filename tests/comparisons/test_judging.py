"""Verdicts, replays, late ones, second thoughts: nothing that was meant is refused, and no slot counts twice."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign, CampaignRevision, CampaignState
from app.comparisons.models import AssignmentState, Comparison, Judgment, JudgmentState, Slot
from app.comparisons.service.judging import LONGEST_ACTIVE_MS, Verdict, record_judgment
from app.comparisons.service.leasing import Lease, expire_leases
from app.errors import Conflict, Invalid
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import LASTS, Desk, make_desk

LATER = NOW + LASTS + timedelta(seconds=1)


def revisions(session: Session, lease: Lease) -> list[Judgment]:
    of_lease = select(Judgment).where(Judgment.assignment_id == lease.assignment_id).order_by(Judgment.revision)
    return list(session.scalars(of_lease))


def slots(session: Session, comparison: Comparison) -> list[tuple[uuid.UUID | None, int | None]]:
    """Assignment and judgment of each slot, by number."""
    of_comparison = (
        select(Slot.assignment_id, Slot.judgment_id).where(Slot.comparison_id == comparison.id).order_by(Slot.number)
    )
    return [(row.assignment_id, row.judgment_id) for row in session.execute(of_comparison)]


def lose(desk: Desk) -> Lease:
    """Lease the next comparison and stay silent until it was taken back."""
    lease = desk.take()
    desk.now += LASTS + timedelta(seconds=1)
    assert expire_leases(desk.session, now=desk.now) == 1
    return lease


def test_a_ranking_is_stored_in_completion_ids(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, texts=("One.", "Two.", "Three."))
    desk = make_desk(session, campaign)
    lease = desk.take()
    recorded = desk.judge(lease, "2>1=3")
    first, second, third = lease.shown_order
    judgment = session.get_one(Judgment, recorded.judgment_id)
    assert judgment.ranking == [[second], sorted([first, third])]
    assert (judgment.comparison_id, judgment.annotator_id) == (comparison.id, desk.annotator_id)
    assert slots(session, comparison) == [(lease.assignment_id, recorded.judgment_id)]
    assert desk.assignment(lease).state is AssignmentState.JUDGED


def test_a_replay_gives_the_first_answer(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease, key = desk.take(), uuid.uuid4()
    first = desk.judge(lease, "1>2", key=key)
    again = desk.judge(lease, "2>1", key=key)
    assert (again.judgment_id, again.replayed, first.replayed) == (first.judgment_id, True, False)
    assert [judgment.ranking for judgment in revisions(session, lease)] == [[[id] for id in lease.shown_order]]


def test_a_replay_after_an_undo_leaves_the_comparison_open(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease, key = desk.take(), uuid.uuid4()
    first = desk.judge(lease, key=key)
    desk.undo(lease)
    again = desk.judge(lease, key=key)
    assert again.replayed
    assert again.judgment_id == first.judgment_id
    assert desk.take() == lease


def test_the_same_key_of_two_people_makes_two_judgments(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign, redundancy=2)
    desks, key = [make_desk(session, campaign), make_desk(session, campaign)], uuid.uuid4()
    recorded = [desk.judge(desk.take(), key=key) for desk in desks]
    assert len({each.judgment_id for each in recorded}) == 2


def test_another_verdict_on_the_same_comparison_is_its_next_revision_in_the_same_slot(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, redundancy=2)
    desk = make_desk(session, campaign)
    lease = desk.take()
    desk.judge(lease, "1>2")
    second = desk.judge(lease, "2>1")
    assert [judgment.revision for judgment in revisions(session, lease)] == [1, 2]
    assert slots(session, comparison) == [(lease.assignment_id, second.judgment_id), (None, None)]


def test_a_late_verdict_takes_its_slot_where_that_is_still_free(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = lose(desk)
    recorded = desk.judge(lease)
    assert not recorded.surplus
    assert slots(session, comparison) == [(lease.assignment_id, recorded.judgment_id)]


def test_a_late_verdict_takes_a_free_slot_before_one_that_is_leased(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, redundancy=2)
    late, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = lose(late)
    taken = other.take()
    recorded = late.judge(lease)
    assert slots(session, comparison) == [(taken.assignment_id, None), (lease.assignment_id, recorded.judgment_id)]


def test_a_late_verdict_takes_a_slot_that_is_only_leased_and_the_other_verdict_is_surplus(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    late, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = lose(late)
    taken = other.take()
    recorded, after = late.judge(lease), other.judge(taken)
    assert (recorded.surplus, after.surplus) == (False, True)
    assert slots(session, comparison) == [(lease.assignment_id, recorded.judgment_id)]


def test_a_late_verdict_is_surplus_where_all_slots_are_filled(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    late, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = lose(late)
    taken = other.take()
    counted, recorded = other.judge(taken), late.judge(lease)
    assert (counted.surplus, recorded.surplus) == (False, True)
    assert slots(session, comparison) == [(taken.assignment_id, counted.judgment_id)]
    assert late.assignment(lease).state is AssignmentState.JUDGED


def test_whoever_lost_their_slot_to_a_late_verdict_takes_another_that_is_free(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign, redundancy=2)
    late, *others = (make_desk(session, campaign) for _ in range(3))
    lease = lose(late)
    leases = [other.take() for other in others]
    late.judge(lease)
    others[1].skip(leases[1])
    assert not others[0].judge(leases[0]).surplus


def test_an_undo_appends_a_retraction_and_leases_the_slot_to_the_same_person(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    desk, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = desk.take()
    desk.judge(lease)
    desk.now += timedelta(hours=2)
    desk.undo(lease)
    assert [judgment.state for judgment in revisions(session, lease)] == [JudgmentState.GIVEN, JudgmentState.RETRACTED]
    assert slots(session, comparison) == [(lease.assignment_id, None)]
    assert desk.assignment(lease).expires_at == desk.now + LASTS
    assert other.lease() is None
    assert desk.take() == lease
    assert not desk.judge(lease, "2>1").surplus


def test_undoing_twice_walks_back_and_what_was_put_back_is_met_again(session: Session) -> None:
    campaign = make_campaign(session)
    first, second = make_comparison(session, campaign), make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    leases = []
    for _ in range(2):
        leases.append(desk.take())
        desk.judge(leases[-1])
    desk.undo(leases[1])
    assert desk.take() == leases[1]
    desk.undo(leases[0])
    assert desk.take() == leases[0]
    assert slots(session, second) == [(None, None)]
    desk.judge(leases[0])
    assert desk.take() == leases[1]
    desk.judge(leases[1])
    assert desk.lease() is None
    assert [len(revisions(session, lease)) for lease in leases] == [3, 3]
    assert all(judgment is not None for comparison in (first, second) for _, judgment in slots(session, comparison))


def test_an_undo_sent_twice_happens_once(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease, key = desk.take(), uuid.uuid4()
    desk.judge(lease)
    desk.undo(lease, key=key)
    desk.undo(lease, key=key)
    desk.judge(lease)
    desk.undo(lease, key=key)
    assert [judgment.state.value for judgment in revisions(session, lease)] == ["given", "retracted", "given"]


def test_an_undone_skip_is_on_the_screen_again(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    desk.skip(lease)
    desk.undo(lease)
    assert desk.take() == lease
    assert slots(session, comparison) == [(lease.assignment_id, None)]


def test_an_undone_surplus_verdict_fills_a_slot_that_became_free(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    late, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = lose(late)
    taken = other.take()
    other.judge(taken)
    assert late.judge(lease).surplus
    other.undo(taken)
    other.skip(taken)
    late.undo(lease)
    assert not late.judge(lease).surplus
    assert [judgment.surplus for judgment in revisions(session, lease)] == [True, True, False]


def test_a_skip_after_the_verdict_leaves_the_verdict(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    recorded = desk.judge(lease)
    desk.skip(lease)
    assert desk.assignment(lease).state is AssignmentState.JUDGED
    assert slots(session, comparison) == [(lease.assignment_id, recorded.judgment_id)]


@pytest.mark.parametrize("state", [CampaignState.PAUSED, CampaignState.CLOSED])
def test_a_campaign_that_is_not_open_takes_verdicts_but_hands_nothing_back(
    session: Session, state: CampaignState
) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    session.execute(update(Campaign).where(Campaign.id == campaign.id).values(state=state))
    assert not desk.judge(lease).surplus
    with pytest.raises(Conflict):
        desk.undo(lease)


@pytest.mark.parametrize(
    ("rules", "ranking", "all_bad"),
    [
        ({"ties_allowed": False}, "1=2", False),
        ({"all_bad_allowed": False}, None, True),
        ({"all_bad_allowed": False}, "1>2", True),
        ({}, None, False),
        ({}, "1>3", False),
    ],
)
def test_a_verdict_that_the_campaign_does_not_ask_for_is_refused(
    session: Session, rules: dict[str, Any], ranking: str | None, all_bad: bool
) -> None:
    campaign = make_campaign(session)
    session.execute(
        update(CampaignRevision)
        .where(CampaignRevision.campaign_id == campaign.id)
        .values(ties_allowed=True, all_bad_allowed=True)
    )
    if rules:
        session.execute(update(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id).values(**rules))
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    with pytest.raises(Invalid):
        desk.judge(lease, ranking, all_bad=all_bad)
    assert desk.take() == lease


def test_all_bad_alone_is_a_verdict_without_a_ranking(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    desk.judge(lease, None, all_bad=True)
    (judgment,) = revisions(session, lease)
    assert (judgment.ranking, judgment.all_bad) == (None, True)


def test_a_verdict_counts_under_the_revision_that_the_page_showed(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    shown = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id)).one()
    shown.ties_allowed = True
    desk = make_desk(session, campaign)
    lease = desk.take()
    session.add(
        CampaignRevision(campaign_id=campaign.id, number=2, guidelines="Choose.", ties_allowed=False, created_at=NOW)
    )
    session.flush()
    with pytest.raises(Invalid):
        desk.judge(lease, "1=2")
    verdict = Verdict(ranking="1=2", revision=1, active_ms=LONGEST_ACTIVE_MS + 1)
    record_judgment(session, assignment=desk.hold(lease), verdict=verdict, key=uuid.uuid4(), now=NOW)
    (judgment,) = revisions(session, lease)
    assert (judgment.campaign_revision_id, judgment.active_ms) == (shown.id, LONGEST_ACTIVE_MS)


def test_the_database_refuses_one_judgment_in_two_slots(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, redundancy=2)
    desk = make_desk(session, campaign)
    recorded = desk.judge(desk.take())
    free = update(Slot).where(Slot.comparison_id == comparison.id, Slot.number == 2)
    with pytest.raises(IntegrityError, match="uq_slots_judgment_id"):
        session.execute(free.values(judgment_id=recorded.judgment_id))


def test_the_database_refuses_one_annotator_in_two_slots(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, redundancy=2)
    lease = make_desk(session, campaign).take()
    free = update(Slot).where(Slot.comparison_id == comparison.id, Slot.number == 2)
    with pytest.raises(IntegrityError, match="uq_slots_assignment_id"):
        session.execute(free.values(assignment_id=lease.assignment_id))


@pytest.mark.parametrize("column", ["judgment_id", "assignment_id"])
def test_the_database_refuses_what_belongs_to_another_comparison(session: Session, column: str) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign, priority=1.0)
    other = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    given = {"assignment_id": lease.assignment_id, "judgment_id": desk.judge(lease).judgment_id}
    session.execute(update(Slot).where(Slot.comparison_id != other.id).values(assignment_id=None, judgment_id=None))
    with pytest.raises(IntegrityError, match="fk_slots_"):
        session.execute(update(Slot).where(Slot.comparison_id == other.id).values({column: given[column]}))


def test_the_database_refuses_a_second_filling_of_a_place(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    desk.judge(desk.take())
    session.expunge_all()
    session.add(Slot(comparison_id=comparison.id, number=1, campaign_id=campaign.id))
    with pytest.raises(IntegrityError, match="pk_slots"):
        session.flush()
