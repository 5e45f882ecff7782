"""Leases: one open comparison per person, kept while they are at it, given on after silence or a skip."""

import uuid
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.comparisons.models import Assignment, AssignmentState, Slot
from app.comparisons.service.leasing import expire_leases
from app.errors import Conflict, NotFound
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import LASTS, make_desk

LATER = NOW + LASTS + timedelta(seconds=1)


def test_a_second_tab_gets_the_comparison_that_is_already_open(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    first = desk.take()
    desk.now += timedelta(minutes=20)
    assert desk.take() == first
    assert desk.assignment(first).expires_at == desk.now + LASTS


def test_the_database_allows_one_open_assignment_per_person_and_campaign(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    other = make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    desk.take()
    session.add(
        Assignment(
            comparison_id=other.id,
            campaign_id=campaign.id,
            annotator_id=desk.annotator_id,
            state=AssignmentState.OPEN,
            shown_order=[],
            leased_at=NOW,
            expires_at=LATER,
        )
    )
    with pytest.raises(IntegrityError, match="uq_assignments_open"):
        session.flush()


def test_an_open_comparison_in_one_campaign_leaves_room_for_one_in_another(session: Session) -> None:
    campaign, other = make_campaign(session), make_campaign(session)
    here, there = make_comparison(session, campaign), make_comparison(session, other)
    desk = make_desk(session, campaign)
    assert desk.take().comparison_id == here.id
    desk.campaign_id = other.id
    assert desk.take().comparison_id == there.id


def test_what_has_priority_is_served_first_then_what_is_older(session: Session) -> None:
    campaign = make_campaign(session)
    older, newer = make_comparison(session, campaign), make_comparison(session, campaign)
    urgent = make_comparison(session, campaign, priority=2.0)
    desk = make_desk(session, campaign)
    served = []
    while (lease := desk.lease()) is not None:
        served.append(lease.comparison_id)
        desk.judge(lease)
    assert served == [urgent.id, older.id, newer.id]


def test_no_more_people_than_slots_are_at_one_comparison(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign, redundancy=2)
    leases = [make_desk(session, campaign).lease() for _ in range(3)]
    assert [lease is None for lease in leases] == [False, False, True]


def test_an_expired_lease_goes_to_somebody_else(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    silent, other = make_desk(session, campaign), make_desk(session, campaign)
    lost = silent.take()
    assert other.lease() is None
    other.now = LATER
    assert other.take().comparison_id == lost.comparison_id
    assert silent.assignment(lost).state is AssignmentState.EXPIRED


def test_a_lease_that_was_renewed_is_not_taken_back(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    active = make_desk(session, campaign)
    lease = active.take()
    active.now += timedelta(minutes=29)
    active.renew(lease)
    assert expire_leases(session, now=LATER) == 0
    assert expire_leases(session, now=active.now + LASTS + timedelta(seconds=1)) == 1


def test_leases_of_other_campaigns_are_left_alone(session: Session) -> None:
    campaign, other = make_campaign(session), make_campaign(session)
    make_comparison(session, campaign)
    make_desk(session, campaign).take()
    assert expire_leases(session, now=LATER, campaign_id=other.id) == 0
    assert expire_leases(session, now=LATER) == 1
    assert expire_leases(session, now=LATER) == 0


def test_an_expired_comparison_comes_back_to_the_same_person_as_it_was_shown(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    desk.now = LATER
    expire_leases(session, now=desk.now)
    assert desk.take() == lease
    assert desk.assignment(lease).state is AssignmentState.OPEN


def test_a_sign_of_life_after_expiry_takes_a_free_slot_again(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = desk.take()
    desk.now = other.now = LATER
    expire_leases(session, now=LATER)
    desk.renew(lease)
    assert desk.assignment(lease).state is AssignmentState.OPEN
    assert other.lease() is None


def test_a_skipped_comparison_goes_to_others_and_never_back(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = desk.take()
    desk.skip(lease, "I wrote one of these.")
    assert desk.lease() is None
    taken = other.take()
    assert taken.comparison_id == lease.comparison_id
    other.skip(taken)
    desk.now = LATER
    assert desk.lease() is None
    assert desk.assignment(lease).skip_reason == "I wrote one of these."


def test_a_judged_comparison_is_not_served_again_though_it_wants_more_judgments(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign, redundancy=2)
    desk = make_desk(session, campaign)
    desk.judge(desk.take())
    assert desk.lease() is None


def test_the_shown_order_is_recorded_and_takes_turns(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, texts=("One.", "Two.", "Three."), redundancy=3)
    members = [member.completion_id for member in comparison.members]
    desks = [make_desk(session, campaign) for _ in range(3)]
    leases = [desk.take() for desk in desks]
    for desk, lease in zip(desks, leases, strict=True):
        assert sorted(lease.shown_order) == members
        assert desk.assignment(lease).shown_order == lease.shown_order
    assert Counter(lease.shown_order[0] for lease in leases) == dict.fromkeys(members, 1)


def test_an_assignment_of_somebody_else_is_a_conflict_and_none_at_all_is_not_found(session: Session) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    lease = make_desk(session, campaign).take()
    other = make_desk(session, campaign)
    for act in (other.judge, other.skip, other.undo, other.renew):
        with pytest.raises(Conflict):
            act(lease)
    with pytest.raises(NotFound):
        other.hold(type(lease)(assignment_id=uuid.uuid4(), comparison_id=0, shown_order=[]))


def test_a_lease_fills_exactly_one_slot(session: Session) -> None:
    campaign = make_campaign(session)
    comparison = make_comparison(session, campaign, redundancy=2)
    lease = make_desk(session, campaign).take()
    slots = session.scalars(
        select(Slot).where(Slot.comparison_id == comparison.id).order_by(Slot.number),
        execution_options={"populate_existing": True},
    )
    assert [slot.assignment_id for slot in slots] == [lease.assignment_id, None]
