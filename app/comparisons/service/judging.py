"""Recording what people decide: verdicts, skips, and second thoughts. Nothing that was meant is refused."""

import uuid
from collections.abc import Sized
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.asking import NOTHING
from app.campaigns.models import CampaignRevision, CampaignState
from app.comparisons.models import AssignmentState
from app.comparisons.ranking import Groups, combined, has_ties, parse_ranking, to_completions
from app.comparisons.service.answers import Given, read_answers
from app.comparisons.service.desk import HeldAssignment, Question, question_of
from app.comparisons.service.leasing import put_back_open, reopen
from app.comparisons.service.marking import shown_texts
from app.comparisons.service.rejecting import is_set_aside
from app.database import find_row, get_row, run_sql
from app.errors import Conflict, Invalid
from app.wording import gettext as _

LONGEST_ACTIVE_MS = 24 * 60 * 60 * 1000
SLIP = timedelta(hours=1)
"""For so long a verdict can be taken back whatever the campaign says: a slip of the finger is no change of mind."""


@dataclass(frozen=True)
class Verdict:
    """What somebody decided, in the words of the page: `ranking` in shown positions, as on the wire."""

    ranking: str | None = None
    all_bad: bool = False
    active_ms: int | None = None
    ui_version: str = ""
    revision: int | None = None
    """Number of the campaign revision that the page showed; None: the one in force."""
    beside: Given = field(default_factory=Given)
    is_demonstration: bool = False
    """That a completion was written, and nothing is ranked."""


@dataclass(frozen=True)
class Recorded:
    """The judgment that stands for a submission. A replayed one was recorded before, by the same key."""

    judgment_id: int
    surplus: bool
    replayed: bool = False


_REPLAYED = "SELECT id, surplus FROM judgments WHERE annotator_id = %(annotator_id)s AND key = %(key)s"

# Verdicts on one comparison go one after the other. Were they to queue for its slots instead, each would keep
# those that it waited for and found filled, and two could wait for each other.
_HOLD_COMPARISON = """
    SELECT replayed.id, replayed.surplus
    FROM comparisons
    LEFT JOIN judgments AS replayed ON replayed.annotator_id = %(annotator_id)s AND replayed.key = %(key)s
    WHERE comparisons.id = %(comparison_id)s FOR NO KEY UPDATE OF comparisons
"""

# The slot that the verdict takes: its own, be it filled by an earlier revision; else a free one; else one that is
# only leased, for a verdict in hand is worth more than one that may never come. With all filled it is surplus, and so
# it is from somebody whose verdict on this comparison was set aside.
_RECORD = """
    WITH place AS (
      SELECT comparison_id, number FROM slots
      WHERE comparison_id = %(comparison_id)s
        AND ((judgment_id IS NULL AND NOT %(set_aside)s) OR assignment_id = %(assignment_id)s)
      ORDER BY assignment_id IS NOT DISTINCT FROM %(assignment_id)s DESC, assignment_id IS NULL DESC, number
      LIMIT 1 FOR UPDATE
    ), verdict AS (
      INSERT INTO judgments (comparison_id, assignment_id, revision, annotator_id, campaign_revision_id, ranking,
                             all_bad, active_ms, key, ui_version, surplus, judged_at, criteria, ratings, flags,
                             spans, strengths, confidence, rationale)
      SELECT %(comparison_id)s, %(assignment_id)s, %(revision)s, %(annotator_id)s, %(campaign_revision_id)s,
             CAST(%(ranking)s AS jsonb),
             %(all_bad)s, %(active_ms)s, %(key)s, %(ui_version)s, NOT EXISTS (SELECT FROM place), %(now)s,
             CAST(%(criteria)s AS jsonb), CAST(%(ratings)s AS jsonb), CAST(%(flags)s AS jsonb),
             CAST(%(spans)s AS jsonb), CAST(%(strengths)s AS jsonb), CAST(%(confidence)s AS integer), %(rationale)s
      RETURNING id, surplus
    ), filled AS (
      UPDATE slots SET assignment_id = %(assignment_id)s, judgment_id = verdict.id FROM place, verdict
      WHERE slots.comparison_id = place.comparison_id AND slots.number = place.number
    ), closed AS (
      UPDATE assignments SET state = 'judged', skip_reason = '',
        closed_at = CASE WHEN %(in_place)s THEN closed_at ELSE %(now)s END
      WHERE id = %(assignment_id)s
    )
    SELECT id, surplus FROM verdict
"""


def record_judgment(
    session: Session,
    *,
    assignment: HeldAssignment,
    verdict: Verdict,
    key: uuid.UUID,
    now: datetime,
    in_place: bool = False,
) -> Recorded:
    """Record the annotator's verdict and close the assignment.

    A replay (same annotator, same key) returns the judgment it first made. A late verdict whose slot has been
    filled is kept as surplus; another verdict on what was judged already is its next revision, and `in_place` leaves
    it where it stands among what its person decided. Raises Invalid for a ranking that cannot be read or that the
    campaign does not allow, Conflict where what was judged may no longer be changed. Where criteria
    stand in the verdict's place, the ranking is what they say together.
    """
    held = {"comparison_id": assignment.comparison_id, "annotator_id": assignment.annotator_id, "key": key}
    replayed = get_row(session, _HOLD_COMPARISON, held)
    if replayed.id is not None:
        return Recorded(replayed.id, replayed.surplus, replayed=True)
    _require_changeable(assignment, now)
    question = _question_shown(session, assignment=assignment, number=verdict.revision)
    by_criteria = question.asked.criteria_alone and not (verdict.all_bad or verdict.is_demonstration)
    order = assignment.shown_order
    if verdict.is_demonstration is not is_for_writing(order):
        raise Invalid(_("There is nothing to compare here: write a completion, or skip."))
    ranking = None if by_criteria else checked_ranking(verdict, question=question, shown_order=order)
    asked = NOTHING if verdict.is_demonstration else question.asked
    answers = read_answers(
        verdict.beside,
        asked=asked,
        shown_order=order,
        ranking=ranking,
        all_bad=verdict.all_bad,
        texts=shown_texts(session, order) if asked.spans and verdict.beside.spans else (),
    )
    if by_criteria:
        ranking = combined(list((answers.criteria or {}).values()))
    row = get_row(
        session,
        _RECORD,
        {
            **held,
            "assignment_id": assignment.id,
            "revision": assignment.last_revision + 1,
            "campaign_revision_id": question.revision_id,
            "ranking": _json(ranking),
            "all_bad": verdict.all_bad,
            "active_ms": _plausible(verdict.active_ms),
            "ui_version": verdict.ui_version[:40],
            "set_aside": _was_set_aside(session, assignment),
            "now": now,
            "in_place": in_place,
            "criteria": _json(answers.criteria),
            "ratings": _json(answers.ratings),
            "flags": _json(answers.flags),
            "spans": _json(answers.spans),
            "strengths": _json(answers.strengths),
            "confidence": answers.confidence,
            "rationale": answers.rationale,
        },
    )
    return Recorded(row.id, row.surplus)


def is_for_writing(shown: Sized) -> bool:
    """Whether nothing is compared: a prompt to write for, alone or with a draft to begin with."""
    return len(shown) < 2


def checked_ranking(verdict: Verdict, *, question: Question, shown_order: list[int]) -> Groups | None:
    """The verdict's ranking of completion ids, or None where only "all bad" was said; raises Invalid.

    Of a demonstration it is empty.
    """
    if verdict.is_demonstration:
        return []
    if verdict.all_bad and not question.all_bad_allowed:
        raise Invalid(_("This campaign asks for a choice even where none is good."))
    if verdict.ranking is None:
        if not verdict.all_bad:
            raise Invalid(_("Choose the better one, or skip."))
        return None
    positions = parse_ranking(verdict.ranking, len(shown_order))
    if has_ties(positions) and not question.ties_allowed:
        raise Invalid(_("This campaign asks for a choice: a tie is not one of its verdicts."))
    return to_completions(positions, shown_order)


def _question_shown(session: Session, *, assignment: HeldAssignment, number: int | None) -> Question:
    """What the page asked: the revision it showed, where it still says which and that is one of this campaign's."""
    if number is None or number == assignment.question.number:
        return assignment.question
    shown = session.execute(
        select(
            CampaignRevision.id.label("revision_id"),
            CampaignRevision.number,
            CampaignRevision.ties_allowed,
            CampaignRevision.all_bad_allowed,
            CampaignRevision.criteria,
            CampaignRevision.scales,
        ).where(CampaignRevision.campaign_id == assignment.campaign_id, CampaignRevision.number == number)
    ).one_or_none()
    return question_of(shown) if shown is not None else assignment.question


def _require_changeable(assignment: HeldAssignment, now: datetime) -> None:
    """What has no verdict yet always takes one; a verdict gives way to another for as long as its campaign says."""
    if assignment.state is not AssignmentState.JUDGED or assignment.closed_at is None:
        return
    if now - assignment.closed_at >= max(assignment.editable_for, SLIP):
        raise Conflict(_("This was judged too long ago to be changed. Ask the manager of the campaign."))


def _was_set_aside(session: Session, assignment: HeldAssignment) -> bool:
    """Whether a manager set aside what was judged already; only asked of a second thought, not of a first verdict."""
    return assignment.state is AssignmentState.JUDGED and is_set_aside(session, assignment_id=assignment.id)


def _json(value: object) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _plausible(active_ms: int | None) -> int | None:
    return None if active_ms is None else max(0, min(active_ms, LONGEST_ACTIVE_MS))


_SKIP = """
    WITH freed AS (UPDATE slots SET assignment_id = NULL WHERE assignment_id = %(id)s AND judgment_id IS NULL)
    UPDATE assignments SET state = 'skipped', closed_at = %(now)s, skip_reason = %(reason)s WHERE id = %(id)s
"""


def skip(session: Session, *, assignment: HeldAssignment, reason: str, now: datetime) -> None:
    """Pass on a comparison; its slot goes to somebody else, and this person never meets it again.

    What was judged or skipped already, from another tab perhaps, stays as it is.
    """
    if assignment.state in {AssignmentState.OPEN, AssignmentState.EXPIRED}:
        run_sql(session, _SKIP, {"id": assignment.id, "reason": reason.strip()[:1000], "now": now})


_RETRACT = """
    WITH last AS (
      SELECT surplus FROM judgments WHERE assignment_id = %(assignment_id)s ORDER BY revision DESC LIMIT 1
    ), retraction AS (
      INSERT INTO judgments (comparison_id, assignment_id, revision, state, annotator_id, campaign_revision_id, key,
                             surplus, judged_at)
      SELECT %(comparison_id)s, %(assignment_id)s, %(revision)s, 'retracted', %(annotator_id)s,
             %(campaign_revision_id)s, %(key)s, last.surplus, %(now)s
      FROM last
    )
    UPDATE slots SET judgment_id = NULL WHERE assignment_id = %(assignment_id)s
"""


def retract(session: Session, *, assignment: HeldAssignment, key: uuid.UUID, lasts: timedelta, now: datetime) -> None:
    """Undo: put a judged or skipped comparison back on its person's screen, in the place of what is there.

    A judgment gets a `retracted` revision, and its slot goes to the same person under a fresh lease. Asking
    for what is on the screen already changes nothing. Raises Conflict where the campaign hands out nothing, where it
    is too late, and where a manager set the judgment aside.
    """
    replay = find_row(session, _REPLAYED, {"annotator_id": assignment.annotator_id, "key": key})
    if assignment.state is AssignmentState.OPEN or replay is not None:
        return
    if assignment.campaign_state is not CampaignState.OPEN:
        raise Conflict(_("This campaign is not open at present, so what was decided stays as it is."))
    _require_changeable(assignment, now)
    if _was_set_aside(session, assignment):
        raise Conflict(_("A manager has set this judgment aside, so it cannot be judged again. Your history says why."))
    put_back_open(
        session,
        campaign_id=assignment.campaign_id,
        annotator_id=assignment.annotator_id,
        except_id=assignment.id,
    )
    if assignment.state is AssignmentState.JUDGED:
        given = {
            "comparison_id": assignment.comparison_id,
            "assignment_id": assignment.id,
            "revision": assignment.last_revision + 1,
            "annotator_id": assignment.annotator_id,
            "campaign_revision_id": assignment.question.revision_id,
        }
        run_sql(session, _RETRACT, {**given, "key": key, "now": now})
    reopen(session, assignment=assignment, lasts=lasts, now=now)
