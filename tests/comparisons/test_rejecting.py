"""Judgments set aside by managers: the slot is free again, the history stays, and taking it back is exact."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.audit import AuditEntry
from app.campaigns.models import Campaign
from app.comparisons.models import Assignment, AssignmentState, Comparison, Judgment, Rejection
from app.comparisons.service.history import past_verdicts
from app.comparisons.service.judging import retract
from app.comparisons.service.leasing import expire_leases
from app.comparisons.service.rejecting import Grounds, lift_rejection, reject_judgment, reject_judgments
from app.errors import Conflict, Invalid
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import LASTS, make_desk
from tests.faults.soundness import NEVER

GROUNDS = Grounds("Both were skimmed.")


@pytest.fixture
def campaign(session: Session) -> Campaign:
    """An open campaign."""
    return make_campaign(session)


@pytest.fixture
def comparison(session: Session, campaign: Campaign) -> Comparison:
    """The one comparison of the campaign, to be judged once."""
    return make_comparison(session, campaign)


@pytest.fixture
def manager(session: Session) -> User:
    """Whoever sets judgments aside."""
    return make_user(session)


@pytest.fixture(autouse=True)
def sound(session: Session) -> Iterator[None]:
    """Whatever a test does, the slots are exact afterwards."""
    yield
    session.flush()
    slots = {what: query for what, query in NEVER.items() if "slot" in what or "judgment" in what}
    assert len(slots) >= 6
    assert {what: ids for what, query in slots.items() if (ids := list(session.scalars(text(query))))} == {}


def reject(session: Session, judgment_id: int, by: User, *, again: bool = False) -> None:
    reject_judgment(session, judgment_id=judgment_id, grounds=Grounds("Skimmed.", again), by_id=by.id, now=NOW)


def held_by(session: Session, comparison: Comparison) -> list[int | None]:
    session.expire_all()
    return [slot.judgment_id for slot in comparison.slots]


def test_a_rejected_judgment_gives_its_slot_to_somebody_else_and_is_kept_as_it_was(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id
    assert bob.lease() is None
    before = dict(session.execute(text("SELECT * FROM judgments WHERE id = :id"), {"id": judgment_id}).one()._mapping)
    reject_judgment(session, judgment_id=judgment_id, grounds=GROUNDS, by_id=manager.id, now=NOW)
    assert ann.lease() is None, "who judged it does not meet it again"
    assert bob.judge(bob.take()).surplus is False
    after = dict(session.execute(text("SELECT * FROM judgments WHERE id = :id"), {"id": judgment_id}).one()._mapping)
    assert after == before
    (row,) = session.scalars(select(Rejection))
    assert (row.judgment_id, row.number, row.state, row.by_id, row.at) == (judgment_id, 1, "rejected", manager.id, NOW)
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "judgment.rejected")).one()
    assert (entry.subject_id, entry.actor_id, entry.details["reason"]) == (str(judgment_id), manager.id, GROUNDS.reason)


def test_rejecting_twice_leaves_one_row(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann = make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id
    for _ in range(2):
        reject(session, judgment_id, manager)
    assert reject_judgments(session, [judgment_id], grounds=GROUNDS, by_id=manager.id, now=NOW) == []
    assert session.scalar(text("SELECT count(*) FROM rejections")) == 1
    assert held_by(session, comparison) == [None]


def test_what_its_annotator_took_back_or_decided_otherwise_can_no_longer_be_rejected(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann = make_desk(session, campaign)
    lease = ann.take()
    first = ann.judge(lease).judgment_id
    second = ann.judge(lease, "2>1").judgment_id
    with pytest.raises(Conflict, match="no longer in force"):
        reject(session, first, manager)
    ann.undo(lease)
    with pytest.raises(Conflict, match="no longer in force"):
        reject(session, second, manager)
    retraction = session.scalars(select(Judgment).where(Judgment.state == "retracted")).one()
    with pytest.raises(Conflict, match="no longer in force"):
        reject(session, retraction.id, manager)
    assert session.scalar(text("SELECT count(*) FROM rejections")) == 0


def test_a_second_thought_on_what_was_set_aside_is_kept_as_surplus_and_undo_is_refused(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    lease = ann.take()
    reject(session, ann.judge(lease).judgment_id, manager)
    for _ in range(2):
        assert ann.judge(lease, "2>1").surplus is True
    held = ann.hold(lease)
    with pytest.raises(Conflict, match="A manager has set this judgment aside"):
        retract(session, assignment=held, key=uuid.uuid4(), lasts=LASTS, now=NOW)
    assert bob.judge(bob.take()).surplus is False


def test_who_is_to_judge_again_meets_the_comparison_in_its_turn_and_counts(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann = make_desk(session, campaign)
    lease = ann.take()
    reject(session, ann.judge(lease).judgment_id, manager, again=True)
    served = ann.take()
    assert served.assignment_id == lease.assignment_id
    recorded = ann.judge(served, "2>1")
    assert recorded.surplus is False
    assert held_by(session, comparison) == [recorded.judgment_id]
    assert session.get_one(Judgment, recorded.judgment_id).revision == 2


def test_asked_again_after_two_rejections_every_further_thought_counts(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann = make_desk(session, campaign)
    lease = ann.take()
    reject(session, ann.judge(lease).judgment_id, manager)
    late = ann.judge(lease, "2>1")
    assert late.surplus is True
    reject(session, late.judgment_id, manager, again=True)
    for ranking in ("1>2", "2>1"):
        recorded = ann.judge(lease, ranking)
        assert recorded.surplus is False
        assert held_by(session, comparison) == [recorded.judgment_id]
    ann.undo(lease)


def test_a_rejection_taken_back_while_the_slot_is_free_counts_again(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    lease = ann.take()
    judgment_id = ann.judge(lease).judgment_id
    for again in (False, True):
        reject(session, judgment_id, manager, again=again)
        for _ in range(2):
            lift_rejection(session, judgment_id=judgment_id, by_id=manager.id, now=NOW)
        assert held_by(session, comparison) == [judgment_id]
    assert session.scalar(text("SELECT count(*) FROM rejections")) == 4
    assert session.get_one(Assignment, lease.assignment_id).state is AssignmentState.JUDGED
    assert (ann.lease(), bob.lease()) == (None, None)


@pytest.mark.parametrize("bobs", ["judged", "on screen"])
def test_a_rejection_stays_where_somebody_else_has_the_place(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User, bobs: str
) -> None:
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id
    reject(session, judgment_id, manager)
    lease = bob.take()
    if bobs == "judged":
        bob.judge(lease)
    with pytest.raises(Conflict, match="Its place has been taken"):
        lift_rejection(session, judgment_id=judgment_id, by_id=manager.id, now=NOW)
    assert session.scalar(text("SELECT count(*) FROM rejections")) == 1


@pytest.mark.parametrize("then", ["looks", "judges", "skips"])
def test_a_rejection_stays_where_its_annotator_has_met_the_comparison_again(
    session: Session, campaign: Campaign, manager: User, then: str
) -> None:
    make_comparison(session, campaign, redundancy=2)
    ann = make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id
    reject(session, judgment_id, manager, again=True)
    lease = ann.take()
    if then == "judges":
        ann.judge(lease, "2>1")
    elif then == "skips":
        ann.skip(lease)
    with pytest.raises(Conflict, match="met this comparison again"):
        lift_rejection(session, judgment_id=judgment_id, by_id=manager.id, now=NOW)


def test_a_surplus_judgment_can_be_set_aside_and_comes_back_as_surplus(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann, bob = make_desk(session, campaign), make_desk(session, campaign)
    late = ann.take()
    expire_leases(session, now=NOW + 2 * LASTS)
    bob.judge(bob.take())
    recorded = ann.judge(late)
    assert recorded.surplus is True
    reject(session, recorded.judgment_id, manager)
    lift_rejection(session, judgment_id=recorded.judgment_id, by_id=manager.id, now=NOW)
    assert recorded.judgment_id not in held_by(session, comparison)


def test_the_database_refuses_two_rejections_in_a_row_and_one_without_a_reason(
    session: Session, campaign: Campaign, comparison: Comparison
) -> None:
    ann = make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id
    rows = ["(:id, 2, 'rejected', 'Why', now())", "(:id, 1, 'lifted', '', now())", "(:id, 1, 'rejected', '', now())"]
    for row in rows:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(
                text(f"INSERT INTO rejections (judgment_id, number, state, reason, at) VALUES {row}"),
                {"id": judgment_id},
            )


def test_grounds_need_words_and_not_too_many() -> None:
    assert Grounds.of("  Skimmed. ", serves_again=True) == Grounds("Skimmed.", serves_again=True)
    for wrong in ("", "  \n", "x" * 1001):
        with pytest.raises(Invalid):
            Grounds.of(wrong, serves_again=False)


def test_ones_own_history_shows_what_was_set_aside_and_why(
    session: Session, campaign: Campaign, comparison: Comparison, manager: User
) -> None:
    ann = make_desk(session, campaign)
    judgment_id = ann.judge(ann.take()).judgment_id

    def shown() -> tuple[bool, str, bool]:
        (past,) = past_verdicts(session, campaign_id=campaign.id, annotator_id=ann.annotator_id, page=1).verdicts
        return past.set_aside, past.rejection_reason, past.comes_again

    assert shown() == (False, "", False)
    reject(session, judgment_id, manager)
    assert shown() == (True, "Skimmed.", False)
    lift_rejection(session, judgment_id=judgment_id, by_id=manager.id, now=NOW)
    assert shown() == (False, "", False)
    reject(session, judgment_id, manager, again=True)
    assert shown() == (True, "Skimmed.", True)
    ann.judge(ann.take(), "2>1")
    assert shown() == (False, "", False)
