"""Imported comparisons and frozen snapshots for tests."""

import gzip
import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import User
from app.campaigns.models import Campaign, CampaignRevision
from app.comparisons.models import (
    Assignment,
    AssignmentState,
    Comparison,
    ComparisonCompletion,
    Demonstration,
    Judgment,
    Slot,
)
from app.datasets.models import Snapshot
from app.datasets.service.comparison_import import import_comparisons
from app.datasets.service.freezing import freeze_snapshot
from app.datasets.service.snapshots import request_snapshot
from app.generation.models import CompletionSource, Import
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.generation import make_completion, make_prompt
from trainer.contract.snapshot import SnapshotPolicy

_numbers = count(1)

Line = dict[str, Any]


def house(prompt: str = "", *rankings: str, completions: Iterable[Any] = ("One.", "Two."), **given: Any) -> Line:
    """A line of the house format: a prompt with completions, judged once by somebody else for each ranking."""
    judgments = [{"annotator": f"annotator-{number}", "ranking": text} for number, text in enumerate(rankings)]
    line = {"prompt": prompt or f"Question {next(_numbers)}?", "completions": list(completions), **given}
    return {**line, "judgments": judgments} if judgments else line


def write_lines(path: Path, lines: Iterable[Line | str], *, packed: bool = False) -> Path:
    """A file of lines; a text goes in as it is."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def import_lines(
    session_factory: sessionmaker[Session],
    campaign: Campaign,
    lines: Iterable[Line | str],
    folder: Path,
    *,
    packed: bool = False,
    at: datetime = NOW,
    **options: Any,
) -> Import:
    """Import lines into a campaign; the finished import."""
    path = write_lines(folder / f"comparisons-{next(_numbers)}.jsonl", lines, packed=packed)
    return import_comparisons(
        session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=lambda: at, **options
    )


def make_snapshot(
    session_factory: sessionmaker[Session],
    settings: Settings,
    *,
    campaign: Campaign | None = None,
    line_id: int | None = None,
    at: datetime = NOW,
    **policy: Any,
) -> Snapshot:
    """A snapshot of all that a campaign or line has, frozen at once; the row as it is afterwards."""
    with session_factory.begin() as session:
        requested = request_snapshot(
            session,
            line_id=line_id,
            campaign_id=campaign.id if campaign is not None else None,
            policy=SnapshotPolicy(**policy),
            by_id=None,
            now=at,
        )
        snapshot_id = requested.id
    freeze_snapshot(session_factory, settings, snapshot_id=snapshot_id, now=at)
    with session_factory.begin() as session:
        return session.get_one(Snapshot, snapshot_id)


def judge_generated(
    session: Session,
    campaign: Campaign,
    prompt: str,
    *,
    by: User | None = None,
    first_is_better: bool = True,
    **given: Any,
) -> Judgment:
    """A comparison of two generated completions of a new prompt, judged here by somebody; `given` is the judgment's."""
    asked = make_prompt(session, campaign, prompt)
    completions = [make_completion(session, asked, text) for text in ("One.", "Two.")]
    ids = [completion.id for completion in completions]
    comparison = Comparison(
        campaign_id=campaign.id,
        prompt_id=asked.id,
        redundancy=1,
        model_version_id=completions[0].model_version_id,
        created_at=NOW,
    )
    comparison.members = [
        ComparisonCompletion(completion_id=each, position=place) for place, each in enumerate(ids, start=1)
    ]
    session.add(comparison)
    session.flush()
    assignment = Assignment(
        comparison_id=comparison.id,
        campaign_id=campaign.id,
        annotator_id=(by or make_user(session)).id,
        state=AssignmentState.JUDGED,
        shown_order=ids[::-1],
        leased_at=NOW,
        expires_at=NOW,
        closed_at=NOW,
    )
    session.add(assignment)
    session.flush()
    ranking = [[each] for each in (ids if first_is_better else ids[::-1])]
    judgment = revise(session, assignment, ranking=ranking, **given)
    session.add(
        Slot(
            comparison_id=comparison.id,
            number=1,
            campaign_id=campaign.id,
            assignment_id=assignment.id,
            judgment_id=judgment.id,
        )
    )
    session.commit()
    return judgment


def revise(session: Session, assignment: Assignment, *, revision: int = 1, **given: Any) -> Judgment:
    """A revision of what somebody decided on an assignment."""
    revision_id = session.scalars(
        select(CampaignRevision.id).where(CampaignRevision.campaign_id == assignment.campaign_id)
    ).first()
    values: dict[str, Any] = {"judged_at": NOW, **given}
    judgment = Judgment(
        comparison_id=assignment.comparison_id,
        assignment_id=assignment.id,
        revision=revision,
        annotator_id=assignment.annotator_id,
        campaign_revision_id=revision_id,
        key=uuid.uuid4(),
        **values,
    )
    session.add(judgment)
    session.commit()
    return judgment


def demonstrate(session: Session, campaign: Campaign, prompt: str, text: str, *, by: User | None = None) -> None:
    """A completion that somebody wrote for a new prompt."""
    author = by or make_user(session)
    asked = make_prompt(session, campaign, prompt)
    written = make_completion(session, asked, text, source=CompletionSource.PERSON, author_id=author.id)
    session.add(
        Demonstration(
            campaign_id=campaign.id,
            prompt_id=asked.id,
            completion_id=written.id,
            author_id=author.id,
            created_at=NOW,
        )
    )
    session.commit()
