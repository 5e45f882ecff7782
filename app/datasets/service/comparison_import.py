"""Taking in a file of comparisons: good lines load, each bad one is reported with number and reason.

A file is taken in batches, each in a transaction of its own that also notes how far it got. An import that
died goes on after its last whole batch, so that nothing is loaded twice and every count is right.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign, CampaignKind
from app.clock import Clock
from app.database import SessionFactory
from app.datasets.house import HouseComparison, parse_line
from app.datasets.service.comparison_storing import Parsed, store_comparisons
from app.datasets.tabular import Line, Misread, house_lines
from app.errors import DomainError, Invalid, NotFound
from app.generation.lines import MOST_BYTES, numbered_lines
from app.generation.models import Import, ImportKind, ImportState
from app.generation.service.imports import begin_import
from app.generation.service.prompts import refill
from app.live.announcing import announce
from app.wording import gettext as _
from trainer.contract.files import file_sha256

BATCH_LINES = 1000
LONGEST_LINE = 8 * 2**20
"""Bytes; a longer line is reported and passed over."""

MOST_REJECTIONS = 1000
"""Rejected lines that are listed; all are counted."""

EXCERPT_CHARACTERS = 120

COUNTS = ("lines", "added", "judgments", "prompts", "duplicates", "rejected")
"""`lines` that were not blank: comparisons `added` (with their `judgments` and new `prompts`), or one of the rest."""

Counts = dict[str, Any]
"""The names of COUNTS; while under way also `share_read` (0 to 1) and `last_line`."""

OnProgress = Callable[[Counts], object]


def import_comparisons(
    session_factory: SessionFactory,
    *,
    campaign_id: int,
    path: Path,
    by_id: int | None,
    clock: Clock,
    progress: OnProgress | None = None,
    most_bytes: int = MOST_BYTES,
) -> Import:
    """Take in a file of comparisons from disk, in the caller's own time: the command line's way.

    Commits batch by batch and calls `progress` with the counts after each. Returns the finished import; raises
    NotFound for an unknown campaign or file, Invalid where the file as a whole cannot be read (what came before
    that is stored).
    """
    if not path.is_file():
        raise NotFound(_("There is no file %(path)s.", path=path))
    with session_factory.begin() as session:
        campaign = session.get(Campaign, campaign_id)
        if campaign is None:
            raise NotFound(_("There is no campaign with the number %(campaign_id)s.", campaign_id=campaign_id))
        record = begin_import(
            session, campaign=campaign, kind=ImportKind.COMPARISONS, filename=path.name, by_id=by_id, now=clock()
        )
        import_id = record.id
    load_comparisons(
        session_factory, import_id=import_id, path=path, clock=clock, progress=progress, most_bytes=most_bytes
    )
    with session_factory.begin() as session:
        record = session.get_one(Import, import_id)
        if record.state is ImportState.FAILED:
            raise Invalid(record.message)
        return record


def load_comparisons(
    session_factory: SessionFactory,
    *,
    import_id: int,
    path: Path,
    clock: Clock,
    progress: OnProgress | None = None,
    most_bytes: int = MOST_BYTES,
) -> None:
    """Read an import's file (house JSONL or a table) and finish the import, done or failed with a message.

    Run again after a death it goes on where it was; run again once over it changes nothing.
    """
    message = ""
    try:
        begun = _begin(session_factory, import_id=import_id, path=path)
        if begun is None:
            return
        last_line, filename = begun
        with path.open("rb") as file:
            size = max(1, path.stat().st_size)
            for batch in _batches(file, filename=filename, after_line=last_line, most_bytes=most_bytes):
                share_read = min(1.0, file.tell() / size)
                counts = _take_in(session_factory, batch, import_id=import_id, share_read=share_read, now=clock())
                if progress is not None:
                    progress(counts)
    except FileNotFoundError:
        message = _("The uploaded file is no longer there. Upload it again.")
    except DomainError as error:
        message = error.message
    _finish(session_factory, import_id=import_id, message=message, now=clock())


def _begin(session_factory: SessionFactory, *, import_id: int, path: Path) -> tuple[int, str] | None:
    """Mark the import as running; the last line that it took before and its name, or None where it is over already."""
    with session_factory.begin() as session:
        record = session.get_one(Import, import_id, with_for_update=True)
        if record.state in {ImportState.DONE, ImportState.FAILED}:
            return None
        sha256 = file_sha256(path)
        if record.sha256 not in {None, sha256}:
            raise Invalid(_("The file changed while it was being loaded. Start a new import with the new file."))
        record.sha256 = sha256
        record.state = ImportState.RUNNING
        return int(record.counts.get("last_line", 0)), record.filename


def _batches(file: BufferedReader, *, filename: str, after_line: int, most_bytes: int) -> Iterator[list[Line]]:
    """Lines that are not blank, in lists. What was gathered before the file broke off still comes out."""
    numbered = numbered_lines(file, most_bytes=most_bytes, longest_line=LONGEST_LINE)
    read = house_lines(numbered, filename=filename)
    lines = (line for line in read if line[0] > after_line and not _is_blank(line))
    batch: list[Line] = []
    try:
        for line in lines:
            batch.append(line)
            if len(batch) >= BATCH_LINES:
                yield batch
                batch = []
    except DomainError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _is_blank(line: Line) -> bool:
    return isinstance(line[1], bytes) and not line[1].strip()


def _take_in(
    session_factory: SessionFactory, batch: list[Line], *, import_id: int, share_read: float, now: datetime
) -> Counts:
    """Store one batch and note it, in one transaction; the import's counts after it."""
    with session_factory() as session:
        is_writing = _is_writing(session, import_id)
    parsed, rejections = _parse(batch, now=now, is_writing=is_writing)
    with session_factory.begin() as session:
        record = session.get_one(Import, import_id, with_for_update=True)
        stored = store_comparisons(session, record=record, lines=parsed, now=now)
        fresh = {**asdict(stored), "lines": len(batch), "rejected": len(rejections)}
        record.counts = {
            **{name: record.counts.get(name, 0) + fresh[name] for name in COUNTS},
            "share_read": round(share_read, 4),
            "last_line": batch[-1][0],
        }
        room = MOST_REJECTIONS - len(record.rejections)
        if rejections and room > 0:
            record.rejections = [*record.rejections, *rejections[:room]]
        return dict(record.counts)


def _is_writing(session: Session, import_id: int) -> bool:
    """Whether the import is for a campaign in which people write, and nothing is compared."""
    campaign_id = session.get_one(Import, import_id).campaign_id
    return session.get_one(Campaign, campaign_id).kind is CampaignKind.DEMONSTRATION


def _parse(batch: list[Line], *, now: datetime, is_writing: bool) -> tuple[list[Parsed], list[dict[str, object]]]:
    parsed: list[Parsed] = []
    rejections: list[dict[str, object]] = []
    for number, line in batch:
        if line is None:
            reason = _("the line is longer than %(most)s MB", most=LONGEST_LINE // 2**20)
            rejections.append({"line": number, "reason": reason, "excerpt": ""})
            continue
        if isinstance(line, Misread):
            rejections.append(
                {"line": number, "reason": line.reason, "excerpt": _excerpt(line.excerpt.encode(errors="replace"))}
            )
            continue
        try:
            parsed.append(Parsed.of(_not_from_the_future(parse_line(line, is_writing=is_writing), now=now)))
        except ValueError as error:
            rejections.append({"line": number, "reason": str(error), "excerpt": _excerpt(line)})
    return parsed, rejections


def _not_from_the_future(comparison: HouseComparison, *, now: datetime) -> HouseComparison:
    if any(judgment.judged_at is not None and judgment.judged_at > now for judgment in comparison.judgments):
        raise ValueError(_("judged_at lies in the future"))
    written = [judgment.demonstration for judgment in comparison.judgments if judgment.demonstration is not None]
    if any(each.written_at is not None and each.written_at > now for each in written):
        raise ValueError(_("written_at lies in the future"))
    return comparison


def _excerpt(line: bytes) -> str:
    text = line[: 4 * EXCERPT_CHARACTERS].decode(errors="replace").replace("\x00", "�").strip()
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"


def _finish(session_factory: SessionFactory, *, import_id: int, message: str, now: datetime) -> None:
    with session_factory.begin() as session:
        record = session.get_one(Import, import_id, with_for_update=True)
        counts = {name: record.counts.get(name, 0) for name in COUNTS}
        record.counts = {**counts, "share_read": record.counts.get("share_read", 0.0) if message else 1.0}
        record.state = ImportState.FAILED if message else ImportState.DONE
        record.message, record.finished_at = message, now
        announce(session, "campaign", record.campaign_id)
        record_deed(
            session,
            action="comparisons.imported",
            subject=record,
            subject_id=record.id,
            actor_id=record.created_by_id,
            now=now,
            campaign_id=record.campaign_id,
            **counts,
        )
        if counts["prompts"]:
            refill(session, session.get_one(Campaign, record.campaign_id))
