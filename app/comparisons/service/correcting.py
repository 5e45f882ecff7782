"""What people write themselves: the ideal completion for a prompt, or a better one after their verdict, starting from a
completion's text.

A correction belongs to the judgment that it follows, one in force at a time: writing again is the next number, and the
one before is kept. Where the judgment is taken back or set aside its correction goes with it; after another verdict on
the same comparison what was written is there to start from.
"""

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.comparisons.models import AssignmentState, Comparison, Demonstration
from app.comparisons.ranking import Groups
from app.comparisons.service.desk import HeldAssignment
from app.comparisons.service.judging import Recorded, Verdict, is_for_writing, record_judgment
from app.comparisons.service.presenting import ShownMessage, shown_messages
from app.comparisons.service.rejecting import is_set_aside
from app.database import find_row
from app.errors import Conflict, Invalid
from app.generation.models import Completion, CompletionSource
from app.generation.normalising import text_sha256
from app.wording import gettext as _

LONGEST_WRITTEN = 50_000
"""Characters of a completion that a person writes."""


@dataclass(frozen=True)
class BlindCorrection:
    """All that the page for a correction may know: what was asked and shown, and the text to start from.

    `starts` are the shown places that one may start from, the better ones, or all where none was; `start` is the one
    chosen. `text` is what is in the field at first: what this person wrote before, or else the start's own text.
    """

    assignment_id: uuid.UUID
    campaign_id: int
    messages: list[ShownMessage]
    completions: list[str]
    starts: list[int]
    start: int
    text: str
    key: uuid.UUID = field(default_factory=uuid.uuid4)

    @property
    def original(self) -> str:
        """The text that is corrected."""
        return self.completions[self.start - 1]


# With the desk held: no other request of this person changes what is read here.
_STANDING = """
    SELECT judgments.id, judgments.ranking, prompts.id AS prompt_id, prompts.messages,
           coalesce(revisions.scales ? 'corrections', false) AS was_asked,
           (SELECT array_agg(completions.text ORDER BY places.place)
            FROM unnest(CAST(%(shown_order)s AS bigint[])) WITH ORDINALITY AS places(id, place)
            JOIN completions ON completions.id = places.id) AS completions
    FROM judgments
    JOIN comparisons ON comparisons.id = judgments.comparison_id
    JOIN prompts ON prompts.id = comparisons.prompt_id
    LEFT JOIN campaign_revisions AS revisions ON revisions.id = judgments.campaign_revision_id
    WHERE judgments.assignment_id = %(assignment_id)s AND judgments.state = 'given'
      AND judgments.revision = %(last_revision)s
"""
_WRITTEN = """
    SELECT demonstrations.corrects_id, completions.text
    FROM demonstrations
    JOIN judgments ON judgments.id = demonstrations.judgment_id
    JOIN completions ON completions.id = demonstrations.completion_id
    WHERE judgments.assignment_id = %(assignment_id)s
    ORDER BY judgments.revision DESC, demonstrations.number DESC LIMIT 1
"""


def present_correction(session: Session, *, assignment: HeldAssignment, start: int | None = None) -> BlindCorrection:
    """The page on which somebody corrects what they judged; `start` is the shown place to start from.

    Raises Conflict where there is nothing of theirs to correct, or the campaign does not ask for it.
    """
    standing = _standing_judgment(session, assignment)
    starts = places_to_start_from(standing.ranking, assignment.shown_order)
    written = find_row(session, _WRITTEN, {"assignment_id": assignment.id})
    before = None
    if written is not None and written.corrects_id in assignment.shown_order:
        before = assignment.shown_order.index(written.corrects_id) + 1
    if start not in starts:
        start = before if before in starts else starts[0]
    texts = list(standing.completions)
    return BlindCorrection(
        assignment_id=assignment.id,
        campaign_id=assignment.campaign_id,
        messages=shown_messages(standing.messages),
        completions=texts,
        starts=starts,
        start=start,
        text=written.text if written is not None and before == start else texts[start - 1],
    )


def save_correction(
    session: Session, *, assignment: HeldAssignment, start: int, text: str, key: uuid.UUID, now: datetime
) -> Demonstration:
    """Keep what somebody wrote in the place of a shown completion; in force from now on for their judgment.

    A replay returns what was first saved. Raises Invalid for a text that says nothing or changes nothing.
    """
    if replayed := find_by_key(session, author_id=assignment.annotator_id, key=key):
        return replayed
    standing = _standing_judgment(session, assignment)
    if start not in places_to_start_from(standing.ranking, assignment.shown_order):
        raise Invalid(_("Start from the completion that you judged better. Reload the page to go on."))
    text = tidied(text)
    if text == _plain(standing.completions[start - 1]):
        raise Invalid(_("Nothing is changed yet. Change the text, or go back to judging."))
    last = session.scalar(
        select(func.max(Demonstration.number)).where(Demonstration.judgment_id == standing.id).limit(1)
    )
    return add_demonstration(
        session,
        assignment=assignment,
        prompt_id=standing.prompt_id,
        judgment_id=standing.id,
        corrects_id=assignment.shown_order[start - 1],
        number=(last or 0) + 1,
        text=text,
        key=key,
        now=now,
    )


_STANDING_CORRECTION = """
    SELECT demonstrations.prompt_id, demonstrations.corrects_id, completions.text, new.ranking
    FROM judgments AS old
    JOIN judgments AS new ON new.id = %(judgment_id)s
    JOIN demonstrations ON demonstrations.judgment_id = old.id
    JOIN completions ON completions.id = demonstrations.completion_id
    WHERE old.assignment_id = %(assignment_id)s AND old.revision = new.revision - 1 AND old.state = 'given'
    ORDER BY demonstrations.number DESC LIMIT 1
"""


def keep_correction(
    session: Session, *, assignment: HeldAssignment, judgment_id: int, key: uuid.UUID, now: datetime
) -> None:
    """Carry what was written under a judgment over to its next revision, where what it corrects is still among the
    best; else it stays with the earlier one, and is there to start from.
    """
    given = {"assignment_id": assignment.id, "judgment_id": judgment_id}
    standing = find_row(session, _STANDING_CORRECTION, given)
    if standing is None or standing.corrects_id not in assignment.shown_order:
        return
    corrected = assignment.shown_order.index(standing.corrects_id) + 1
    if corrected in places_to_start_from(standing.ranking, assignment.shown_order):
        add_demonstration(
            session,
            assignment=assignment,
            prompt_id=standing.prompt_id,
            judgment_id=judgment_id,
            corrects_id=standing.corrects_id,
            number=1,
            text=standing.text,
            key=key,
            now=now,
        )


def submit_demonstration(
    session: Session,
    *,
    assignment: HeldAssignment,
    text: str,
    key: uuid.UUID,
    verdict: Verdict,
    now: datetime,
    as_it_is: bool = False,
) -> Recorded:
    """Record what somebody wrote for a prompt: a judgment that ranks nothing and fills a slot as any, with its text.

    A replay returns what was first recorded. Raises Invalid for a text that says nothing, and for a draft that is sent
    back unchanged, unless they say that it is ideal `as_it_is`.
    """
    text = tidied(text)
    draft_id = assignment.shown_order[0] if len(assignment.shown_order) == 1 else None
    if draft_id is not None and not as_it_is and text == _plain(session.get_one(Completion, draft_id).text):
        raise Invalid(_("Nothing is changed yet. Change the text, or say that it is ideal as it is."))
    recorded = record_judgment(
        session, assignment=assignment, verdict=replace(verdict, is_demonstration=True), key=key, now=now
    )
    if not recorded.replayed:
        comparison = session.get_one(Comparison, assignment.comparison_id)
        add_demonstration(
            session,
            assignment=assignment,
            prompt_id=comparison.prompt_id,
            judgment_id=recorded.judgment_id,
            corrects_id=draft_id,
            number=1,
            text=text,
            key=key,
            now=now,
        )
    return recorded


def written_before(session: Session, *, assignment_id: uuid.UUID) -> str | None:
    """What somebody wrote for a prompt that is at their desk again; None where it is new to them."""
    row = find_row(session, _WRITTEN, {"assignment_id": assignment_id})
    return str(row.text) if row is not None else None


def add_demonstration(
    session: Session,
    *,
    assignment: HeldAssignment,
    prompt_id: int,
    judgment_id: int,
    corrects_id: int | None,
    number: int,
    text: str,
    key: uuid.UUID,
    now: datetime,
) -> Demonstration:
    """Store what a person wrote, as their completion and as a demonstration."""
    author_id = assignment.annotator_id
    completion = Completion(
        prompt_id=prompt_id,
        source=CompletionSource.PERSON,
        text=text,
        normalised_sha256=text_sha256(text),
        author_id=author_id,
        created_at=now,
    )
    session.add(completion)
    session.flush()
    demonstration = Demonstration(
        campaign_id=assignment.campaign_id,
        prompt_id=prompt_id,
        completion_id=completion.id,
        author_id=author_id,
        corrects_id=corrects_id,
        judgment_id=judgment_id,
        number=number,
        key=key,
        created_at=now,
    )
    session.add(demonstration)
    session.flush()
    return demonstration


def find_by_key(session: Session, *, author_id: int, key: uuid.UUID) -> Demonstration | None:
    """What this person saved under a key, if it came through before."""
    return session.scalars(
        select(Demonstration).where(Demonstration.author_id == author_id, Demonstration.key == key)
    ).one_or_none()


def places_to_start_from(ranking: Groups | None, shown_order: list[int]) -> list[int]:
    """The shown places of the best; of all, where none was better than another."""
    best = set(ranking[0]) if ranking else set(shown_order)
    return [place for place, completion_id in enumerate(shown_order, start=1) if completion_id in best]


def tidied(text: str) -> str:
    """A text as it is kept: browsers send line ends as CR LF, and PostgreSQL holds no NUL. Raises Invalid."""
    text = _plain(text)
    if not text:
        raise Invalid(_("Write something first."))
    if len(text) > LONGEST_WRITTEN:
        raise Invalid(_("Keep it to %(most)s characters.", most=f"{LONGEST_WRITTEN:,}"))
    return text


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\x00", "�").encode("utf-8", "replace").decode().strip()


def _standing_judgment(session: Session, assignment: HeldAssignment) -> Any:
    """The judgment in force that a correction belongs to; raises Conflict where there is none."""
    given = {
        "assignment_id": assignment.id,
        "last_revision": assignment.last_revision,
        "shown_order": assignment.shown_order,
    }
    standing = find_row(session, _STANDING, given) if assignment.state is AssignmentState.JUDGED else None
    if standing is None or is_for_writing(assignment.shown_order):
        raise Conflict(_("Judge this comparison first; then you can write a better one."))
    if not (assignment.question.asked.corrections or standing.was_asked):
        raise Conflict(_("This campaign does not ask for completions of your own."))
    if is_set_aside(session, assignment_id=assignment.id):
        raise Conflict(_("A manager has set this judgment aside, so it cannot be corrected. Your history says why."))
    return standing
