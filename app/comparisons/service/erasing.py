"""Erasing what somebody decided, on their request: the one time that a judgment is edited.

The rows stay, without content and retracted, so that numbers, keys and revisions go on meaning what they did. The
slots become free: others judge those comparisons anew, and redundancy stays exact.
"""

from sqlalchemy.orm import Session

from app.comparisons.service.desk import hold_desk
from app.database import get_row, run_sql

# In the order of `app.comparisons.service`: the desk, the comparisons, the assignments and slots.
_HOLD_COMPARISONS = """
    SELECT id FROM comparisons
    WHERE id IN (SELECT comparison_id FROM assignments WHERE annotator_id = %(annotator_id)s)
    ORDER BY id FOR NO KEY UPDATE
"""
_FREE_SLOTS = """
    UPDATE slots SET judgment_id = NULL, assignment_id = NULL
    FROM assignments WHERE assignments.id = slots.assignment_id AND assignments.annotator_id = %(annotator_id)s
"""
_ERASE_JUDGMENTS = """
    WITH erased AS (
      UPDATE judgments
      SET state = 'retracted', ranking = NULL, all_bad = false, strengths = NULL, criteria = NULL, ratings = NULL,
          flags = NULL, spans = NULL, rationale = '', confidence = NULL, active_ms = NULL, ui_version = ''
      WHERE annotator_id = %(annotator_id)s
      RETURNING 1
    )
    SELECT count(*) FROM erased
"""
_ERASE_ASSIGNMENTS = """
    UPDATE assignments SET state = 'expired', skip_reason = '', closed_at = NULL WHERE annotator_id = %(annotator_id)s
"""
_ERASE_DEMONSTRATIONS = "DELETE FROM demonstrations WHERE author_id = %(annotator_id)s"
_ERASE_COMPLETIONS = """
    UPDATE completions SET text = '', normalised_sha256 = '', token_ids = NULL
    WHERE author_id = %(annotator_id)s AND text <> ''
"""


def erase_judgments(session: Session, *, annotator_id: int) -> int:
    """Erase all that a person decided or wrote in comparisons; returns how many revisions that were.

    It can be done again: a verdict that was on its way meanwhile is erased by the next time.
    """
    given = {"annotator_id": annotator_id}
    hold_desk(session, annotator_id=annotator_id)
    for statement in (_HOLD_COMPARISONS, _FREE_SLOTS):
        run_sql(session, statement, given)
    erased = int(get_row(session, _ERASE_JUDGMENTS, given)[0])
    for statement in (_ERASE_ASSIGNMENTS, _ERASE_DEMONSTRATIONS, _ERASE_COMPLETIONS):
        run_sql(session, statement, given)
    session.expire_all()
    return erased
