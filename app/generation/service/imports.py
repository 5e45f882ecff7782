"""Taking in a file of prompts: batch by batch, each in a transaction of its own, and the same when run again.

An import that was killed is run again from the start of its file. What its first attempt stored is recognised
by the import's id, so nothing is doubled and the counts come out as if nothing had happened.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign
from app.clock import Clock
from app.database import SessionFactory
from app.errors import DomainError, Invalid, NotFound
from app.generation.lines import MOST_BYTES
from app.generation.models import Import, ImportKind, ImportState, Prompt
from app.generation.prompt_file import Rejection, read_prompts
from app.generation.prompt_lines import PromptDraft
from app.generation.service.prompts import insert_prompts, refill
from app.wording import gettext as _

BATCH = 1_000
"""Lines per transaction."""

BATCH_CHARACTERS = 4 * 2**20
"""A batch of very long prompts ends sooner, so that memory stays small."""

MOST_REJECTIONS = 1_000
"""Rejected lines that are listed; all are counted."""


@dataclass
class ImportProgress:
    """How far an import is. `lines` counts all that are not blank: added, duplicates or rejected.

    `share_read` is the part of the file read so far (0 to 1).
    """

    lines: int = 0
    added: int = 0
    rejected: int = 0
    share_read: float = 0.0
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def duplicates(self) -> int:
        """Good lines that the file or the campaign had already."""
        return max(0, self.lines - self.rejected - self.added)

    def counts(self) -> dict[str, Any]:
        """The counts as the import keeps them."""
        return {
            "lines": self.lines,
            "added": self.added,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "share_read": round(self.share_read, 4),
        }


OnProgress = Callable[[ImportProgress], object]


def begin_import(
    session: Session, *, campaign: Campaign, kind: ImportKind, filename: str, by_id: int | None, now: datetime
) -> Import:
    """An import that waits for its file to be read."""
    record = Import(
        campaign_id=campaign.id,
        kind=kind,
        state=ImportState.WAITING,
        filename=filename[:200] or "unnamed",
        created_by_id=by_id,
        created_at=now,
    )
    session.add(record)
    session.flush()
    return record


def import_prompts(
    session_factory: SessionFactory,
    *,
    campaign_id: int,
    path: Path,
    by_id: int | None,
    clock: Clock,
    progress: OnProgress | None = None,
    most_bytes: int = MOST_BYTES,
) -> Import:
    """Take in a file of prompts from disk, in the caller's own time: the command line's way.

    Commits batch by batch and calls `progress` after each. Returns the finished import; raises NotFound for an
    unknown campaign, and Invalid where the file as a whole cannot be read (what came before that is stored).
    """
    if not path.is_file():
        raise NotFound(_("There is no file %(path)s.", path=path))
    with session_factory.begin() as session:
        campaign = session.get(Campaign, campaign_id)
        if campaign is None:
            raise NotFound(_("There is no campaign with the number %(campaign_id)s.", campaign_id=campaign_id))
        record = begin_import(
            session, campaign=campaign, kind=ImportKind.PROMPTS, filename=path.name, by_id=by_id, now=clock()
        )
        import_id = record.id
    load_prompts(session_factory, import_id=import_id, path=path, clock=clock, progress=progress, most_bytes=most_bytes)
    with session_factory.begin() as session:
        record = session.get_one(Import, import_id)
        if record.state is ImportState.FAILED:
            raise Invalid(record.message)
        return record


def load_prompts(
    session_factory: SessionFactory,
    *,
    import_id: int,
    path: Path,
    clock: Clock,
    progress: OnProgress | None = None,
    most_bytes: int = MOST_BYTES,
) -> None:
    """Read an import's file and finish the import, done or failed with a message. Safe to run again."""
    with session_factory.begin() as session:
        started = _start(session, import_id=import_id)
        if started is None:
            return
        filename, so_far = started
    message = ""
    try:
        with path.open("rb") as file:
            size = max(1, path.stat().st_size)
            for batch in _batches(read_prompts(file, filename=filename, most_bytes=most_bytes)):
                so_far.share_read = min(1.0, file.tell() / size)
                with session_factory.begin() as session:
                    _take_in(session, batch, import_id=import_id, so_far=so_far, now=clock())
                if progress is not None:
                    progress(so_far)
    except FileNotFoundError:
        message = _("The uploaded file is no longer there. Upload it again.")
    except DomainError as error:
        message = error.message
    with session_factory.begin() as session:
        _finish(session, import_id=import_id, so_far=so_far, message=message, now=clock())
    if progress is not None:
        progress(so_far)


def fail_import(session: Session, *, import_id: int, message: str, now: datetime) -> None:
    """Say that an import broke off for a reason that lies outside its file."""
    record = session.get_one(Import, import_id)
    if record.state in {ImportState.WAITING, ImportState.RUNNING}:
        record.state, record.message, record.finished_at = ImportState.FAILED, message, now


def list_imports(session: Session, *, campaign_id: int, kind: ImportKind, limit: int = 100) -> list[Import]:
    """A campaign's imports of one kind, the newest first."""
    query = select(Import).where(Import.campaign_id == campaign_id, Import.kind == kind)
    return list(session.scalars(query.order_by(Import.id.desc()).limit(limit)))


def _start(session: Session, *, import_id: int) -> tuple[str, ImportProgress] | None:
    """The file's name, and what an attempt before this one added; None where the import is over."""
    record = session.get_one(Import, import_id, with_for_update=True)
    if record.state in {ImportState.DONE, ImportState.FAILED}:
        return None
    record.state = ImportState.RUNNING
    added = session.scalars(select(func.count()).select_from(Prompt).where(Prompt.import_id == import_id)).one()
    return record.filename, ImportProgress(added=added)


def _batches(items: Iterable[PromptDraft | Rejection]) -> Iterator[list[PromptDraft | Rejection]]:
    """The items in lists of a bounded size. What was gathered before the file broke off still comes out."""
    batch: list[PromptDraft | Rejection] = []
    characters = 0
    try:
        for item in items:
            batch.append(item)
            characters += sum(len(m["content"]) for m in item.messages) if isinstance(item, PromptDraft) else 0
            if len(batch) >= BATCH or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
    except DomainError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _take_in(
    session: Session, batch: list[PromptDraft | Rejection], *, import_id: int, so_far: ImportProgress, now: datetime
) -> None:
    record = session.get_one(Import, import_id)
    drafts = [item for item in batch if isinstance(item, PromptDraft)]
    rejections = [item for item in batch if isinstance(item, Rejection)]
    so_far.added += insert_prompts(session, drafts, campaign_id=record.campaign_id, import_id=import_id, now=now)
    so_far.lines += len(batch)
    so_far.rejected += len(rejections)
    room = MOST_REJECTIONS - len(so_far.rejections)
    so_far.rejections += rejections[:room]
    record.counts = so_far.counts()
    if rejections and room > 0:
        record.rejections = [rejection.as_json() for rejection in so_far.rejections]


def _finish(session: Session, *, import_id: int, so_far: ImportProgress, message: str, now: datetime) -> None:
    record = session.get_one(Import, import_id)
    so_far.share_read = so_far.share_read if message else 1.0
    record.state = ImportState.FAILED if message else ImportState.DONE
    record.message, record.finished_at, record.counts = message, now, so_far.counts()
    session.flush()
    record_deed(
        session,
        action="prompts.imported",
        subject=record,
        subject_id=record.id,
        actor_id=record.created_by_id,
        now=now,
        campaign_id=record.campaign_id,
        **record.counts,
    )
    if so_far.added:
        refill(session, session.get_one(Campaign, record.campaign_id))
