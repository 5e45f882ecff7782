"""Forgetting a person on their request: account, judgments, and every frozen copy of these.

What was in the air at that moment (a verdict on its way, a snapshot being written) is caught by
`finish_forgetting`, which a job runs right afterwards and the clean-up every hour.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.service.forgetting import erase_account
from app.audit import record_deed
from app.campaigns.models import Enrolment
from app.comparisons.models import Judgment, JudgmentState
from app.comparisons.service.erasing import erase_judgments
from app.datasets.models import Snapshot, SnapshotAnnotator, SnapshotState
from app.datasets.service.withdrawing import enqueue_withdrawals, withdraw_snapshots_with
from app.wording import gettext as _
from app.wording import mark as N_

REASON = N_("Somebody whose judgments it held asked to be forgotten.")


@dataclass(frozen=True)
class Held:
    """What there is of a person: revisions of judgments, and snapshots that hold some of them."""

    judgments: int
    snapshots: list[Snapshot]


@dataclass(frozen=True)
class Forgotten:
    """What was erased."""

    judgments: int
    snapshots: int


def held_of(session: Session, *, user_id: int) -> Held:
    """What forgetting a person would erase."""
    theirs = select(Judgment.id).where(Judgment.annotator_id == user_id, Judgment.state == JudgmentState.GIVEN)
    snapshots = (
        select(Snapshot)
        .join(SnapshotAnnotator, SnapshotAnnotator.snapshot_id == Snapshot.id)
        .where(SnapshotAnnotator.user_id == user_id, Snapshot.state == SnapshotState.READY)
        .order_by(Snapshot.id)
    )
    return Held(judgments=len(session.scalars(theirs).all()), snapshots=list(session.scalars(snapshots)))


def forget_person(session: Session, *, user: User, by_id: int | None, now: datetime) -> Forgotten:
    """Erase a person for good. Raises Conflict for oneself and for the last admin."""
    erase_account(session, user=user, by_id=by_id, now=now)
    session.execute(delete(Enrolment).where(Enrolment.user_id == user.id))
    erased = _erase(session, user_id=user.id, by_id=by_id, now=now)
    record_deed(
        session, action="user.judgments_erased", subject=user, subject_id=user.id, actor_id=by_id, now=now,
        judgments=erased.judgments, snapshots=erased.snapshots,
    )  # fmt: skip
    enqueue_withdrawals(session)
    return erased


def finish_forgetting(session: Session, *, now: datetime) -> Forgotten:
    """Erase what people who were forgotten left meanwhile; nothing in all but rare cases."""
    judged = exists().where(Judgment.annotator_id == User.id, Judgment.state == JudgmentState.GIVEN)
    frozen = exists().where(
        SnapshotAnnotator.user_id == User.id,
        SnapshotAnnotator.snapshot_id == Snapshot.id,
        Snapshot.state == SnapshotState.READY,
    )
    left = select(User.id).where(User.forgotten_at.is_not(None), judged | frozen)
    done = [_erase(session, user_id=user_id, by_id=None, now=now) for user_id in session.scalars(left).all()]
    return Forgotten(sum(each.judgments for each in done), sum(each.snapshots for each in done))


def _erase(session: Session, *, user_id: int, by_id: int | None, now: datetime) -> Forgotten:
    judgments = erase_judgments(session, annotator_id=user_id)
    snapshots = withdraw_snapshots_with(session, user_id=user_id, reason=_(REASON), by_id=by_id, now=now)
    return Forgotten(judgments, snapshots)
