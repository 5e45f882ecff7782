"""Freezing a snapshot: from the judgments of an instant to a folder that never changes.

Killed anywhere it can be run again. The folder is built beside its place and appears there whole, by one
rename, with the manifest written last; the row learns of it last. Whoever finds the folder in its place
finishes the row from its manifest.
"""

import fcntl
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row as Found
from sqlalchemy import Select, and_, or_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.campaigns.models import Campaign
from app.comparisons.models import Demonstration, Judgment
from app.database import SessionFactory
from app.datasets.card import dataset_card, described_campaigns
from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot, SnapshotAnnotator, SnapshotState
from app.datasets.rows import CORRECTION, TRAINED_ON, Row, judgment_row, preferred_pairs, ranking_rows
from app.datasets.scope import Scope, campaigns_in, scope_labels
from app.datasets.service.judged import (
    Judged,
    as_generated,
    begin_consistent_reading,
    demonstrations_in_force,
    judged_comparisons,
    judgment_holds,
    was_rejected,
)
from app.datasets.service.snapshots import fail_snapshot
from app.datasets.trl import write_trl_preference
from app.errors import Conflict, DomainError
from app.generation.models import Completion, CompletionSource, Prompt, Split
from app.pseudonyms import Pseudonyms
from app.settings import Settings
from app.wording import gettext as _
from trainer.contract.files import read_json, write_json
from trainer.contract.snapshot import (
    CARD_FILE,
    DEMONSTRATIONS_FILE,
    JUDGMENTS_FILE,
    MANIFEST_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    SnapshotManifest,
    SnapshotPolicy,
    demonstrations_schema,
    judgments_schema,
    rankings_schema,
    rows_digest,
)
from trainer.contract.steps import Step, passing

if TYPE_CHECKING:
    from app.datasets.folder import RowsFile

Progress = Callable[[int], None]
"""Called with the number of judgments written so far."""

COUNTS = (
    *(
        "judgments",
        "surplus",
        "rejected",
        "rankings_train",
        "rankings_eval",
        "pairs_train",
        "pairs_eval",
        "ties",
        "all_bad_only",
    ),
    *("checks", "neither_split", "comparisons", "prompts", "annotators", "demonstrations", "corrections"),
)
"""What a manifest counts; docs/formats.md says what each means."""


def freeze_snapshot(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None = None,
) -> None:
    """Write the folder of a requested snapshot and mark it ready; a snapshot that is over is left alone.

    Where it cannot be written (a full disk, a folder of another installation in its place) the row says why,
    and the error is raised again.
    """
    folder = settings.snapshots_dir / str(snapshot_id)
    try:
        with _alone(folder):
            _freeze(session_factory, settings, folder=folder, snapshot_id=snapshot_id, now=now, progress=progress)
    except (DomainError, OSError) as error:
        reason = error.message if isinstance(error, DomainError) else _said(error)
        with session_factory.begin() as session:
            fail_snapshot(session, snapshot_id=snapshot_id, reason=reason)
        raise


def _said(error: OSError) -> str:
    reason = error.strerror or str(error)
    return _(
        "The files could not be written: %(reason)s. Ask an admin to look at the disk, then try again.", reason=reason
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from building the same folder: its own job and a run that needs it may start at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        # Only after success: whoever still waits for this lock, or takes a new one, finds the work done.
        path.unlink(missing_ok=True)


def _freeze(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    folder: Path,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None,
) -> None:
    with session_factory.begin() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        if snapshot.state in {SnapshotState.READY, SnapshotState.WITHDRAWN}:
            return
        as_of = snapshot.as_of
    if not (folder / MANIFEST_FILE).exists():
        _build(session_factory, settings, folder=folder, snapshot_id=snapshot_id, now=now, progress=progress)
    manifest = read_json(folder / MANIFEST_FILE, SnapshotManifest)
    _refuse_another_installations(manifest, folder, snapshot_id=snapshot_id, as_of=as_of)
    write_trl_preference(folder, exports_folder(settings, snapshot_id))
    passing(Step.SNAPSHOT_EXPORTED)
    _mark_ready(session_factory, snapshot_id=snapshot_id, folder=folder, manifest=manifest, now=now)
    passing(Step.SNAPSHOT_MARKED)


def _build(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    folder: Path,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None,
) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    passing(Step.SNAPSHOT_BEGUN)
    with session_factory.begin() as session:
        begin_consistent_reading(session)
        snapshot = session.get_one(Snapshot, snapshot_id)
        tally, digest = _write_rows(session, snapshot, part, Pseudonyms(settings.required_secret()), progress)
        manifest = _manifest(session, snapshot, part, tally=tally, digest=digest, now=now)
        campaigns = described_campaigns(session, campaigns_in(session, Scope.of(snapshot)))
    passing(Step.SNAPSHOT_ROWS_WRITTEN)
    _note_annotators(session_factory, snapshot_id=snapshot_id, user_ids=tally.user_ids)
    passing(Step.SNAPSHOT_ANNOTATORS_NOTED)
    _finish_folder(part, folder, manifest=manifest, card=dataset_card(manifest, campaigns))


@dataclass
class _Tally:
    """What went into a snapshot, counted on the way."""

    counts: Counter[str] = field(default_factory=Counter)
    prompts: set[int] = field(default_factory=set)
    annotators: set[str] = field(default_factory=set)
    user_ids: set[int] = field(default_factory=set)
    completions: int = 0
    on_policy: int = 0
    files: dict[str, Any] = field(default_factory=dict)


def _write_rows(
    session: Session, snapshot: Snapshot, part: Path, pseudonyms: Pseudonyms, progress: Progress | None
) -> tuple[_Tally, str]:
    """Write all Parquet files; what they hold, and the hash of the ranking rows."""
    from app.datasets.folder import RowsFile

    schemas = {
        JUDGMENTS_FILE: judgments_schema(),
        RANKINGS_TRAIN_FILE: rankings_schema(),
        RANKINGS_EVAL_FILE: rankings_schema(),
        DEMONSTRATIONS_FILE: demonstrations_schema(),
    }
    files = {name: RowsFile(part / name, schema) for name, schema in schemas.items()}
    policy = SnapshotPolicy.model_validate(snapshot.policy)
    tally = _Tally()
    campaign_ids = [campaign.id for campaign in campaigns_in(session, Scope.of(snapshot))]
    try:
        batches = judged_comparisons(
            session, campaign_ids=campaign_ids, as_of=snapshot.as_of, with_surplus=True, pseudonyms=pseudonyms
        )
        digest = rows_digest(_written_rankings(batches, files, policy=policy, tally=tally, progress=progress))
        _write_demonstrations(session, campaign_ids, files, snapshot=snapshot, pseudonyms=pseudonyms, tally=tally)
        for file in files.values():
            file.close()
    except BaseException:
        for file in files.values():
            with suppress(Exception):
                file.abandon()
        raise
    tally.files = {name: file.entry() for name, file in files.items()}
    return tally, digest


def _written_rankings(
    batches: Iterator[list[Judged]],
    files: "dict[str, RowsFile]",
    *,
    policy: SnapshotPolicy,
    tally: _Tally,
    progress: Progress | None,
) -> Iterator[Row]:
    """Write judgments and rankings as they come, and pass the rankings on in the order of the files."""
    rankings = {Split.TRAIN.value: files[RANKINGS_TRAIN_FILE], Split.EVAL.value: files[RANKINGS_EVAL_FILE]}
    for batch in batches:
        for comparison, every_verdict in batch:
            verdicts = _taken(every_verdict, redundancy=comparison.redundancy, policy=policy)
            tally.counts["rejected"] += sum(verdict.rejected for verdict in every_verdict)
            tally.counts["surplus"] += sum(verdict.surplus and not verdict.rejected for verdict in every_verdict)
            if not verdicts:
                continue
            for verdict in verdicts:
                files[JUDGMENTS_FILE].append(
                    judgment_row(comparison, verdict, with_rationale=policy.include_rationales)
                )
            _count(tally, (comparison, verdicts))
            if comparison.kind not in TRAINED_ON:
                tally.counts["checks"] += len(verdicts)
            elif comparison.split is None:
                tally.counts["neither_split"] += len(verdicts)
            else:
                for row in ranking_rows(comparison, verdicts, corrections_as_chosen=policy.corrections_as_chosen):
                    rankings[comparison.split].append(row)
                    _count_ranking(tally, row, split=comparison.split)
                    yield row
        if progress is not None:
            progress(tally.counts["judgments"])


def _taken(verdicts: list[Any], *, redundancy: int, policy: SnapshotPolicy) -> list[Any]:
    """The judgments of a comparison that the policy lets in. One that was set aside makes no comparison complete."""
    counted = sum(not (verdict.surplus or verdict.rejected) for verdict in verdicts)
    if not policy.incomplete_comparisons and counted < redundancy:
        return []
    return [
        verdict
        for verdict in verdicts
        if (policy.include_rejected or not verdict.rejected) and (policy.include_surplus or not verdict.surplus)
    ]


def _count(tally: _Tally, judged: Judged) -> None:
    comparison, verdicts = judged
    tally.counts["comparisons"] += 1
    tally.counts["judgments"] += len(verdicts)
    tally.prompts.add(comparison.prompt_id)
    tally.annotators.update(verdict.annotator for verdict in verdicts)
    tally.user_ids.update(verdict.user_id for verdict in verdicts if verdict.user_id is not None)
    tally.completions += len(comparison.completions)
    tally.on_policy += sum(completion.on_policy for completion in comparison.completions)


def _count_ranking(tally: _Tally, row: Row, *, split: str) -> None:
    tally.counts[f"rankings_{split}"] += 1
    if row["criterion"] is not None:
        return
    pairs = len(preferred_pairs(row["ranks"]))
    tally.counts["corrections"] += row["source"] == CORRECTION
    tally.counts[f"pairs_{split}"] += pairs
    if not pairs:
        tally.counts["all_bad_only" if row["all_bad"] else "ties"] += 1


def _write_demonstrations(
    session: Session,
    campaign_ids: list[int],
    files: "dict[str, RowsFile]",
    *,
    snapshot: Snapshot,
    pseudonyms: Pseudonyms,
    tally: _Tally,
) -> None:
    """What people wrote, as long as the judgment that it goes with is in force and let in by the policy."""
    policy = SnapshotPolicy.model_validate(snapshot.policy)
    query = _demonstrations(campaign_ids, as_of=snapshot.as_of, policy=policy)
    for row in session.execute(query.execution_options(yield_per=1000)):
        generated = row.corrected_source is CompletionSource.MODEL
        files[DEMONSTRATIONS_FILE].append(
            {
                "prompt_id": str(row.prompt_id),
                "split": None if row.split is None else row.split.value,
                "prompt": as_generated(row.messages, row.system_prompt if generated else ""),
                "completion_id": str(row.completion_id),
                "completion": [{"role": "assistant", "content": row.text}],
                "corrects_id": None if row.corrects_id is None else str(row.corrects_id),
                "corrects": None if row.corrects_id is None else [{"role": "assistant", "content": row.corrected}],
                "judgment_id": None if row.judgment_id is None else str(row.judgment_id),
                "author": _author(row, pseudonyms),
                "source": "written" if row.corrects_id is None else "corrected",
                "written_at": row.created_at,
            }
        )
        tally.counts["demonstrations"] += 1
        if row.author_id is not None:
            tally.user_ids.add(row.author_id)


def _author(row: Found[Any], pseudonyms: Pseudonyms) -> str | None:
    """The pseudonym of who wrote it: somebody here, or whom an import names for the judgment."""
    if row.author_id is not None:
        return pseudonyms.of_user(row.author_id)
    if row.external_annotator is None:
        return None
    return pseudonyms.of_external(row.import_id, row.external_annotator)


def _demonstrations(campaign_ids: list[int], *, as_of: datetime, policy: SnapshotPolicy) -> Select[Any]:
    """Demonstrations in force at an instant, oldest first, with their prompts and what they correct."""
    corrected = aliased(Completion)
    holds = judgment_holds(as_of=as_of)
    if not policy.include_surplus:
        holds = and_(holds, Judgment.surplus.is_(False))
    if not policy.include_rejected:
        holds = and_(holds, ~was_rejected(as_of=as_of))
    return (
        demonstrations_in_force(as_of=as_of)
        .add_columns(Demonstration.author_id, Demonstration.corrects_id, Demonstration.judgment_id)
        .add_columns(Demonstration.created_at, Prompt.id.label("prompt_id"), Prompt.split, Prompt.messages)
        .add_columns(Completion.id.label("completion_id"), Completion.text, Campaign.system_prompt)
        .add_columns(corrected.text.label("corrected"), corrected.source.label("corrected_source"))
        .add_columns(Judgment.import_id, Judgment.external_annotator)
        .join_from(Demonstration, Prompt, Demonstration.prompt_id == Prompt.id)
        .join(Judgment, Demonstration.judgment_id == Judgment.id, isouter=True)
        .join(Campaign, Demonstration.campaign_id == Campaign.id)
        .join(Completion, Demonstration.completion_id == Completion.id)
        .join(corrected, Demonstration.corrects_id == corrected.id, isouter=True)
        .where(Demonstration.campaign_id.in_(campaign_ids))
        .where(or_(Demonstration.judgment_id.is_(None), holds))
        .order_by(Demonstration.id)
    )


def _manifest(
    session: Session, snapshot: Snapshot, part: Path, *, tally: _Tally, digest: str, now: datetime
) -> SnapshotManifest:
    counts = {**tally.counts, "prompts": len(tally.prompts), "annotators": len(tally.annotators)}
    scope = Scope.of(snapshot)
    has_line = scope.line_id is not None and tally.completions > 0
    return SnapshotManifest(
        snapshot_id=str(snapshot.id),
        name=snapshot.name,
        created_at=now,
        policy=SnapshotPolicy.model_validate(snapshot.policy),
        scope=scope_labels(session, scope),
        as_of=snapshot.as_of,
        counts={name: counts.get(name, 0) for name in COUNTS},
        files=tally.files,
        rows_sha256=digest,
        parent=str(snapshot.parent_id) if snapshot.parent_id is not None else None,
        on_policy_share=tally.on_policy / tally.completions if has_line else None,
    )


def _finish_folder(part: Path, folder: Path, *, manifest: SnapshotManifest, card: str) -> None:
    """Add the card and, last, the manifest; then move the folder to its place."""
    from app.datasets.folder import file_entry, sync

    (part / CARD_FILE).write_text(card, encoding="utf-8")
    sync(part / CARD_FILE)
    files = {**manifest.files, CARD_FILE: file_entry(part / CARD_FILE)}
    write_json(part / MANIFEST_FILE, manifest.model_copy(update={"files": files}))
    passing(Step.SNAPSHOT_MANIFEST_WRITTEN)
    part.rename(folder)
    sync(folder.parent)
    passing(Step.SNAPSHOT_MOVED)


def _note_annotators(session_factory: SessionFactory, *, snapshot_id: int, user_ids: set[int]) -> None:
    """Record whose judgments the folder holds before it can be seen, so that it can be withdrawn on request."""
    if user_ids:
        rows = [{"snapshot_id": snapshot_id, "user_id": user_id} for user_id in sorted(user_ids)]
        with session_factory.begin() as session:
            session.execute(insert(SnapshotAnnotator).on_conflict_do_nothing(), rows)


def _refuse_another_installations(
    manifest: SnapshotManifest, folder: Path, *, snapshot_id: int, as_of: datetime
) -> None:
    if (manifest.snapshot_id, manifest.as_of) != (str(snapshot_id), as_of):
        raise Conflict(
            _(
                "%(folder)s holds a snapshot of another database (%(name)s, %(as_of)s). Move it away and freeze again.",
                folder=folder,
                name=manifest.name,
                as_of=f"{manifest.as_of:%Y-%m-%d %H:%M}",
            )
        )


def _mark_ready(
    session_factory: SessionFactory, *, snapshot_id: int, folder: Path, manifest: SnapshotManifest, now: datetime
) -> None:
    with session_factory.begin() as session:
        snapshot = session.get_one(Snapshot, snapshot_id, with_for_update=True)
        if snapshot.state is SnapshotState.WITHDRAWN:
            return
        snapshot.state = SnapshotState.READY
        snapshot.path = str(folder)
        snapshot.rows_sha256 = manifest.rows_sha256
        snapshot.counts = dict(manifest.counts)
        snapshot.manifest = manifest.model_dump(mode="json")
        snapshot.message = ""
        snapshot.frozen_at = now
        session.flush()
        passing(Step.SNAPSHOT_MARKING)
