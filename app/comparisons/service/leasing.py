"""Leases: the next comparison for a person, kept while they are active and taken back after silence."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.comparisons.models import AssignmentState
from app.comparisons.service.desk import HeldAssignment
from app.comparisons.showing import shown_order
from app.database import find_row, get_row, run_sql


@dataclass(frozen=True)
class Lease:
    """A comparison on somebody's screen. `shown_order` lists completion ids, first to last."""

    assignment_id: uuid.UUID
    comparison_id: int
    shown_order: list[int]


_KEEP_OPEN = """
    UPDATE assignments SET expires_at = %(expires_at)s
    WHERE campaign_id = %(campaign_id)s AND annotator_id = %(annotator_id)s AND state = 'open'
    RETURNING id, comparison_id, shown_order
"""

_PICK = """
    SELECT slots.comparison_id, slots.number,
           (SELECT array_agg(completion_id ORDER BY position) FROM comparison_completions AS members
            WHERE members.comparison_id = slots.comparison_id) AS completion_ids
    FROM slots
    WHERE slots.campaign_id = %(campaign_id)s AND slots.assignment_id IS NULL AND slots.judgment_id IS NULL
      AND NOT EXISTS (SELECT FROM assignments AS own
                      WHERE own.comparison_id = slots.comparison_id AND own.annotator_id = %(annotator_id)s
                        AND own.state <> 'expired')
      AND EXISTS (SELECT FROM comparisons JOIN prompts ON prompts.id = comparisons.prompt_id
                  WHERE comparisons.id = slots.comparison_id AND prompts.state <> 'retired')
    ORDER BY slots.priority DESC, slots.comparison_id, slots.number
    LIMIT 1 FOR UPDATE OF slots SKIP LOCKED
"""

# Leased anew to the same person, a comparison keeps its id and its order: a page may still be open with them.
_LEASE = """
    WITH leased AS (
      INSERT INTO assignments (id, comparison_id, campaign_id, annotator_id, state, shown_order, leased_at, expires_at)
      VALUES (%(id)s, %(comparison_id)s, %(campaign_id)s, %(annotator_id)s, 'open',
              CAST(%(shown_order)s AS bigint[]), %(now)s, %(expires_at)s)
      ON CONFLICT (comparison_id, annotator_id) DO UPDATE
        SET state = 'open', leased_at = excluded.leased_at, expires_at = excluded.expires_at,
            closed_at = NULL, skip_reason = ''
      RETURNING id, comparison_id, shown_order
    ), taken AS (
      UPDATE slots SET assignment_id = leased.id FROM leased
      WHERE slots.comparison_id = leased.comparison_id AND slots.number = %(number)s
    )
    SELECT id, comparison_id, shown_order FROM leased
"""


def lease_next(
    session: Session, *, campaign_id: int, annotator_id: int, lasts: timedelta, now: datetime, none_open: bool = False
) -> Lease | None:
    """The comparison this person is at, or the next one that wants a judgment and that they never saw; or None.

    Their desk must be held. What they judged or skipped is not served again. `none_open` says that the caller
    has just closed their open one.
    """
    person = {"campaign_id": campaign_id, "annotator_id": annotator_id}
    if not none_open:
        row = find_row(session, _KEEP_OPEN, {**person, "expires_at": now + lasts})
        if row is not None:
            return Lease(*row)
    lease = _lease_free(session, campaign_id=campaign_id, annotator_id=annotator_id, lasts=lasts, now=now)
    if lease is None and expire_leases(session, now=now, campaign_id=campaign_id):
        lease = _lease_free(session, campaign_id=campaign_id, annotator_id=annotator_id, lasts=lasts, now=now)
    return lease


def _lease_free(
    session: Session, *, campaign_id: int, annotator_id: int, lasts: timedelta, now: datetime
) -> Lease | None:
    """Lease the first free slot that is nobody's at this moment, by priority, then by age."""
    person = {"campaign_id": campaign_id, "annotator_id": annotator_id}
    place = find_row(session, _PICK, person)
    if place is None:
        return None
    ids = place.completion_ids or []
    order = shown_order(ids, comparison_id=place.comparison_id, slot=place.number) if ids else []
    given = {"id": uuid.uuid4(), "comparison_id": place.comparison_id, "number": place.number, "shown_order": order}
    return Lease(*get_row(session, _LEASE, {**person, **given, "now": now, "expires_at": now + lasts}))


_EXPIRE = """
    WITH silent AS (
      SELECT assignments.id, slots.comparison_id, slots.number
      FROM assignments JOIN slots ON slots.assignment_id = assignments.id AND slots.judgment_id IS NULL
      WHERE assignments.state = 'open' AND assignments.expires_at < %(now)s
        AND (CAST(%(campaign_id)s AS integer) IS NULL OR assignments.campaign_id = %(campaign_id)s)
      LIMIT 500 FOR NO KEY UPDATE OF assignments, slots SKIP LOCKED
    ), without_slot AS (
      SELECT id FROM assignments
      WHERE state = 'open' AND expires_at < %(now)s
        AND (CAST(%(campaign_id)s AS integer) IS NULL OR campaign_id = %(campaign_id)s)
        AND NOT EXISTS (SELECT FROM slots WHERE slots.assignment_id = assignments.id)
      LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED
    ), freed AS (
      UPDATE slots SET assignment_id = NULL FROM silent
      WHERE slots.comparison_id = silent.comparison_id AND slots.number = silent.number
      RETURNING 1
    ), closed AS (
      UPDATE assignments SET state = 'expired'
      WHERE id IN (SELECT id FROM silent UNION ALL SELECT id FROM without_slot)
    )
    SELECT count(*) FROM freed
"""


def expire_leases(session: Session, *, now: datetime, campaign_id: int | None = None) -> int:
    """Take back leases that ran out, in one campaign or in all; returns how many slots became free.

    Rows that others hold at this moment are left for the next time. A late verdict is still accepted.
    """
    return int(get_row(session, _EXPIRE, {"now": now, "campaign_id": campaign_id})[0])


_RENEW = "UPDATE assignments SET expires_at = %(expires_at)s WHERE id = %(id)s AND state = 'open'"
_OPEN_ONE = """
    SELECT id FROM assignments
    WHERE campaign_id = %(campaign_id)s AND annotator_id = %(annotator_id)s AND state = 'open'
"""


def renew(session: Session, *, assignment: HeldAssignment, lasts: timedelta, now: datetime) -> None:
    """The person is still at it. A lease that was taken back meanwhile is leased again where a slot is free."""
    if assignment.state is AssignmentState.OPEN:
        run_sql(session, _RENEW, {"id": assignment.id, "expires_at": now + lasts})
    elif assignment.state is AssignmentState.EXPIRED:
        person = {"campaign_id": assignment.campaign_id, "annotator_id": assignment.annotator_id}
        if find_row(session, _OPEN_ONE, person) is None:
            reopen(session, assignment=assignment, lasts=lasts, now=now)


_TAKE_FREE_SLOT = """
    UPDATE slots SET assignment_id = %(id)s
    WHERE (comparison_id, number) = (
      SELECT comparison_id, number FROM slots
      WHERE comparison_id = %(comparison_id)s AND assignment_id IS NULL AND judgment_id IS NULL
      ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
"""
_REOPEN = """
    UPDATE assignments
    SET state = 'open', leased_at = %(now)s, expires_at = %(expires_at)s, closed_at = NULL, skip_reason = ''
    WHERE id = %(id)s
"""
_HOLDS_SLOT = "SELECT 1 FROM slots WHERE assignment_id = %(id)s"


def reopen(session: Session, *, assignment: HeldAssignment, lasts: timedelta, now: datetime) -> None:
    """Put a closed assignment back on its person's screen under a fresh lease, with a slot where one is to be had.

    No other of theirs may be open in the campaign. Without a slot, what they decide will be surplus.
    """
    if find_row(session, _HOLDS_SLOT, {"id": assignment.id}) is None:
        run_sql(session, _TAKE_FREE_SLOT, {"id": assignment.id, "comparison_id": assignment.comparison_id})
    run_sql(session, _REOPEN, {"id": assignment.id, "now": now, "expires_at": now + lasts})


_PUT_BACK = """
    WITH put_back AS (
      UPDATE assignments SET state = 'expired'
      WHERE campaign_id = %(campaign_id)s AND annotator_id = %(annotator_id)s AND state = 'open' AND id <> %(except_id)s
      RETURNING id
    )
    UPDATE slots SET assignment_id = NULL FROM put_back
    WHERE slots.assignment_id = put_back.id AND slots.judgment_id IS NULL
"""


def put_back_open(session: Session, *, campaign_id: int, annotator_id: int, except_id: uuid.UUID) -> None:
    """Take a person's open comparison off their screen; they will meet it again in its turn."""
    run_sql(session, _PUT_BACK, {"campaign_id": campaign_id, "annotator_id": annotator_id, "except_id": except_id})
