"""Setting judgments aside, and taking that back: a row each time, and the judgment itself is never touched.

A rejected judgment gives its slot back, so that the comparison is handed out again and still ends with exactly its
redundancy. Its annotator does not meet the comparison again unless the manager says so.

Locks are taken as everywhere here: desks first, then comparisons, each in ascending order, then slots. With the
annotator's desk held none of their own requests comes between; with the comparison held, nobody's verdict on it does.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.audit import record_deed
from app.comparisons.service.desk import hold_desk
from app.database import find_row, run_sql
from app.errors import Conflict, Invalid, NotFound
from app.wording import gettext as _

LONGEST_REASON = 1000


@dataclass(frozen=True)
class Grounds:
    """Why judgments are set aside, in words that their annotators read, and whether these may judge again."""

    reason: str
    serves_again: bool = False

    @classmethod
    def of(cls, reason: str, *, serves_again: bool) -> "Grounds":
        """Grounds as somebody typed them; raises Invalid without a reason, or with one that is too long."""
        reason = reason.strip()
        if not reason:
            raise Invalid(_("Say why. The annotator sees the reason beside the judgment."))
        if len(reason) > LONGEST_REASON:
            raise Invalid(_("Say it in fewer words: at most %(most)s characters.", most=LONGEST_REASON))
        return cls(reason, serves_again)


def reject_judgment(session: Session, *, judgment_id: int, grounds: Grounds, by_id: int | None, now: datetime) -> None:
    """Set one judgment aside; one that is set aside already stays as it is.

    Raises Conflict where it is no longer in force: its annotator took it back, or decided otherwise meanwhile.
    """
    if reject_judgments(session, [judgment_id], grounds=grounds, by_id=by_id, now=now):
        _record(session, "rejected", judgment_id, by_id=by_id, now=now, reason=grounds.reason)
    elif not _standing(session, judgment_id).rejected:
        raise Conflict(_("This judgment is no longer in force: its annotator took it back or decided otherwise."))


_KNOWN = "SELECT comparison_id, annotator_id FROM judgments WHERE id = ANY(%(ids)s)"
_HOLD_COMPARISONS = "SELECT id FROM comparisons WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE"
_REJECT = """
    WITH standing AS (
      SELECT judgments.id, judgments.assignment_id, coalesce(last.number, 0) AS number
      FROM judgments
      LEFT JOIN LATERAL (SELECT number, state FROM rejections WHERE judgment_id = judgments.id
                         ORDER BY number DESC LIMIT 1) AS last ON true
      WHERE judgments.id = ANY(%(ids)s) AND judgments.state = 'given' AND last.state IS DISTINCT FROM 'rejected'
        AND NOT EXISTS (SELECT FROM judgments AS later
                        WHERE later.assignment_id = judgments.assignment_id AND later.revision > judgments.revision)
    ), noted AS (
      INSERT INTO rejections (judgment_id, number, state, reason, serves_again, by_id, at)
      SELECT id, number + 1, 'rejected', %(reason)s, %(serves_again)s AND assignment_id IS NOT NULL, %(by_id)s, %(now)s
      FROM standing
      RETURNING judgment_id
    ), freed AS (
      UPDATE slots SET judgment_id = NULL, assignment_id = NULL FROM standing WHERE slots.judgment_id = standing.id
    ), returned AS (
      UPDATE assignments SET state = 'expired' FROM standing
      WHERE %(serves_again)s AND assignments.id = standing.assignment_id AND assignments.state = 'judged'
    )
    SELECT judgment_id FROM noted
"""


def reject_judgments(
    session: Session, judgment_ids: Sequence[int], *, grounds: Grounds, by_id: int | None, now: datetime
) -> list[int]:
    """Set judgments aside; returns which. Those set aside already or no longer in force are passed over."""
    _hold(session, judgment_ids)
    given = {"ids": list(judgment_ids), "reason": grounds.reason, "serves_again": grounds.serves_again}
    return [row.judgment_id for row in run_sql(session, _REJECT, {**given, "by_id": by_id, "now": now})]


def _hold(session: Session, judgment_ids: Sequence[int]) -> None:
    """Hold the desks of those who made these judgments, then the comparisons that they are on."""
    known = run_sql(session, _KNOWN, {"ids": list(judgment_ids)})
    for annotator_id in sorted({row.annotator_id for row in known if row.annotator_id is not None}):
        hold_desk(session, annotator_id=annotator_id)
    run_sql(session, _HOLD_COMPARISONS, {"ids": sorted({row.comparison_id for row in known})})


_LIFT = """
    WITH noted AS (
      INSERT INTO rejections (judgment_id, number, state, by_id, at)
      VALUES (%(judgment_id)s, %(number)s, 'lifted', %(by_id)s, %(now)s)
    )
    UPDATE assignments SET state = 'judged' WHERE id = %(assignment_id)s
"""
_TAKE_SLOT = """
    UPDATE slots SET judgment_id = %(judgment_id)s, assignment_id = %(assignment_id)s
    WHERE (comparison_id, number) = (
      SELECT comparison_id, number FROM slots
      WHERE comparison_id = %(comparison_id)s AND assignment_id IS NULL AND judgment_id IS NULL
      ORDER BY number LIMIT 1 FOR UPDATE)
    RETURNING number
"""


def lift_rejection(session: Session, *, judgment_id: int, by_id: int | None, now: datetime) -> None:
    """Take a rejection back: the judgment counts again. One that is not set aside stays as it is.

    Raises Conflict where its place is taken, or where its annotator has met the comparison again: then it stays out.
    It does not become surplus, for what a judgment says of itself never changes.
    """
    _hold(session, [judgment_id])
    judgment = _standing(session, judgment_id)
    if not judgment.rejected:
        return
    if judgment.superseded or judgment.assignment_state in {"open", "skipped"}:
        raise Conflict(_("Its annotator has met this comparison again meanwhile, so this judgment stays set aside."))
    given = {"judgment_id": judgment_id, "assignment_id": judgment.assignment_id}
    if not judgment.surplus:
        place = {**given, "comparison_id": judgment.comparison_id}
        if find_row(session, _TAKE_SLOT, place) is None:
            raise Conflict(
                _("Its place has been taken: somebody else judged this comparison or has it on their screen.")
            )
    run_sql(session, _LIFT, {**given, "number": judgment.number + 1, "by_id": by_id, "now": now})
    _record(session, "rejection_lifted", judgment_id, by_id=by_id, now=now)


_STANDING = """
    SELECT judgments.comparison_id, judgments.assignment_id, judgments.surplus, assignments.state AS assignment_state,
           coalesce(last.number, 0) AS number, coalesce(last.state = 'rejected', false) AS rejected,
           EXISTS (SELECT FROM judgments AS later
                   WHERE later.assignment_id = judgments.assignment_id
                     AND later.revision > judgments.revision) AS superseded
    FROM judgments
    LEFT JOIN assignments ON assignments.id = judgments.assignment_id
    LEFT JOIN LATERAL (SELECT number, state FROM rejections WHERE judgment_id = judgments.id
                       ORDER BY number DESC LIMIT 1) AS last ON true
    WHERE judgments.id = %(id)s
"""


def _standing(session: Session, judgment_id: int) -> Any:
    row = find_row(session, _STANDING, {"id": judgment_id})
    if row is None:
        raise NotFound(_("There is no such judgment."))
    return row


_SET_ASIDE = """
    SELECT NOT last.serves_again AS set_aside
    FROM judgments CROSS JOIN LATERAL (
      SELECT state, serves_again FROM rejections WHERE judgment_id = judgments.id
      ORDER BY number DESC LIMIT 1) AS last
    WHERE judgments.assignment_id = %(id)s AND last.state = 'rejected'
    ORDER BY judgments.revision DESC LIMIT 1
"""


def is_set_aside(session: Session, *, assignment_id: uuid.UUID) -> bool:
    """Whether what a person decided on an assignment was set aside, the last time without their being asked again."""
    row = find_row(session, _SET_ASIDE, {"id": assignment_id})
    return row is not None and row.set_aside


def _record(
    session: Session, verb: str, judgment_id: int, *, by_id: int | None, now: datetime, **details: object
) -> None:
    record_deed(
        session,
        action=f"judgment.{verb}",
        subject="Judgment",
        subject_id=judgment_id,
        actor_id=by_id,
        now=now,
        **details,
    )
