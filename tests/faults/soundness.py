"""What must be true of an installation at any moment: in the database, on the disk, and against the ledger.

Each check returns what is amiss, in words; an empty list is what we want to see. They may be asked while people work.
"""

import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.faults import RECOVERY_SECONDS
from tests.faults.installation import LEASE_SECONDS, Installation
from tests.faults.ledger import Deed, Ledger
from trainer.contract.files import file_sha256, read_json, weights_sha256
from trainer.contract.report import Outcome, Report
from trainer.contract.run import REPORT_FILE
from trainer.contract.snapshot import MANIFEST_FILE, SnapshotManifest

REJECTED = """coalesce((SELECT rejections.state = 'rejected' FROM rejections
                            WHERE rejections.judgment_id = judgments.id ORDER BY number DESC LIMIT 1), false)"""
NEVER = {
    "a comparison has not exactly its redundancy of slots": """
        SELECT comparisons.id FROM comparisons LEFT JOIN slots ON slots.comparison_id = comparisons.id
        WHERE comparisons.state = 'open'
        GROUP BY comparisons.id HAVING count(slots.number) <> comparisons.redundancy""",
    "a dropped comparison has slots": """
        SELECT comparisons.id FROM comparisons JOIN slots ON slots.comparison_id = comparisons.id
        WHERE comparisons.state = 'dropped'""",
    "a comparison has fewer than two completions": """
        SELECT comparisons.id FROM comparisons
        LEFT JOIN comparison_completions AS members ON members.comparison_id = comparisons.id
        GROUP BY comparisons.id HAVING count(members.completion_id) < 2""",
    "a comparison has more counted judgments than its redundancy": f"""
        SELECT comparisons.id FROM comparisons JOIN (
          SELECT DISTINCT ON (coalesce(assignment_id::text, id::text)) *, {REJECTED} AS rejected FROM judgments
          ORDER BY coalesce(assignment_id::text, id::text), revision DESC) AS latest
          ON latest.comparison_id = comparisons.id AND latest.state = 'given' AND NOT latest.surplus
          AND NOT latest.rejected
        GROUP BY comparisons.id HAVING count(*) > comparisons.redundancy""",
    "a slot holds a judgment that is not the one in force": """
        SELECT slots.comparison_id FROM slots JOIN judgments ON judgments.id = slots.judgment_id
        WHERE judgments.state <> 'given' OR EXISTS (
          SELECT FROM judgments AS later
          WHERE later.assignment_id = judgments.assignment_id AND later.revision > judgments.revision)""",
    "a slot holds a judgment that was set aside": f"""
        SELECT slots.comparison_id FROM slots JOIN judgments ON judgments.id = slots.judgment_id WHERE {REJECTED}""",
    "a counted judgment in force has no slot": f"""
        SELECT latest.id FROM (
          SELECT DISTINCT ON (assignment_id) *, {REJECTED} AS rejected FROM judgments WHERE assignment_id IS NOT NULL
          ORDER BY assignment_id, revision DESC) AS latest
        WHERE latest.state = 'given' AND NOT latest.surplus AND NOT latest.rejected
          AND NOT EXISTS (SELECT FROM slots WHERE slots.judgment_id = latest.id)""",
    "somebody judged a comparison twice": """
        SELECT comparison_id FROM assignments GROUP BY comparison_id, annotator_id HAVING count(*) > 1""",
    "somebody has two open comparisons": """
        SELECT annotator_id FROM assignments WHERE state = 'open'
        GROUP BY annotator_id, campaign_id HAVING count(*) > 1""",
    "an alias points at two versions": """
        SELECT line_id FROM deployments WHERE until IS NULL GROUP BY line_id, alias HAVING count(*) > 1""",
    "a trained version has no run that made it": """
        SELECT id FROM model_versions WHERE number > 0
          AND NOT EXISTS (SELECT FROM runs WHERE runs.model_version_id = model_versions.id)""",
    "a run that succeeded lacks its version, its report or its gate": """
        SELECT id FROM runs
        WHERE state = 'succeeded' AND (model_version_id IS NULL OR report IS NULL OR gate IS NULL)""",
    "a run failed": "SELECT id || ': ' || message FROM runs WHERE state IN ('failed', 'cancelled')",
    "a snapshot failed": "SELECT id || ': ' || message FROM snapshots WHERE state = 'failed'",
    "a snapshot was frozen twice": "SELECT path FROM snapshots WHERE state = 'ready' GROUP BY path HAVING count(*) > 1",
    "a job was given up": "SELECT id || ' ' || task_name FROM procrastinate_jobs WHERE status IN ('failed', 'aborted')",
}


def amiss(place: Installation, ledger: Ledger) -> list[str]:
    """Everything that is not as it must be."""
    deeds = ledger.so_far()  # before the database is read: what is acknowledged later may be there too
    with place.sessions() as session:
        found = [f"{what}: {ids[:5]}" for what, query in NEVER.items() if (ids := list(session.scalars(text(query))))]
        found += _unkept(session, deeds)
        found += _broken_snapshots(session)
        found += _broken_versions(session, place.palate.data_dir)
    return found


# --- The ledger


def _unkept(session: Session, deeds: list[Deed]) -> list[str]:
    keyed = {deed.key: deed for deed in deeds if deed.key is not None}
    rows = session.execute(
        text(
            """
            SELECT judgments.key, judgments.annotator_id, judgments.assignment_id, judgments.state, judgments.ranking,
                   assignments.shown_order
            FROM judgments JOIN assignments ON assignments.id = judgments.assignment_id
            WHERE judgments.key = ANY(:keys)
            """
        ),
        {"keys": list(keyed)},
    ).all()
    found = [f"recorded twice: key {key}" for key in _repeated(row.key for row in rows)]
    kept = {row.key: row for row in rows}
    found += [f"acknowledged and lost: {deed}" for key, deed in keyed.items() if key not in kept]
    found += [
        f"kept otherwise than meant: {keyed[key]}: {row}" for key, row in kept.items() if not _says(row, keyed[key])
    ]
    return found


def _repeated(keys: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    seen: set[uuid.UUID] = set()
    return {key for key in keys if key in seen or seen.add(key)}  # type: ignore[func-returns-value]


def _says(row: Any, deed: Deed) -> bool:
    if (row.annotator_id, row.assignment_id) != (deed.annotator_id, deed.assignment_id):
        return False
    if deed.kind == "retracted":
        return bool(row.state == "retracted")
    assert deed.ranking is not None
    meant = [[row.shown_order[int(place) - 1] for place in group.split("=")] for group in deed.ranking.split(">")]
    return bool(row.state == "given" and _in_order(row.ranking) == _in_order(meant))


def _in_order(ranking: list[list[int]]) -> list[list[int]]:
    return [sorted(group) for group in ranking]


# --- The disk


def _broken_snapshots(session: Session) -> list[str]:
    found = []
    for row in session.execute(text("SELECT id, path, rows_sha256 FROM snapshots WHERE state = 'ready'")):
        folder = Path(row.path)
        if not (folder / MANIFEST_FILE).is_file():
            found.append(f"snapshot {row.id} is ready without a manifest")
            continue
        manifest = read_json(folder / MANIFEST_FILE, SnapshotManifest)
        if manifest.rows_sha256 != row.rows_sha256:
            found.append(f"snapshot {row.id} is not the one that its row speaks of")
        for name, entry in manifest.files.items():
            if file_sha256(folder / name) != entry.sha256:
                found.append(f"snapshot {row.id}: {name} is not as its manifest says")
    return found


def _broken_versions(session: Session, data_dir: Path) -> list[str]:
    found = []
    query = """SELECT model_versions.path, model_versions.sha256, runs.id AS run_id
               FROM model_versions JOIN runs ON runs.model_version_id = model_versions.id"""
    for row in session.execute(text(query)):
        report = read_json(data_dir.resolve() / "runs" / str(row.run_id) / REPORT_FILE, Report)
        if report.state is not Outcome.SUCCEEDED or weights_sha256(Path(row.path)) != row.sha256:
            found.append(f"the version of run {row.run_id} is not whole")
    return found


# --- After everybody has gone home


def leases_left(place: Installation) -> list[str]:
    """Leases that did not return although nobody is there any more; waits for the last to run out."""
    give_up_at = time.monotonic() + LEASE_SECONDS + RECOVERY_SECONDS
    held = "SELECT count(*) FROM assignments WHERE state = 'open'"
    while True:
        with place.sessions() as session:
            left = session.scalar(text(held))
        if not left:
            return []
        if time.monotonic() > give_up_at:
            return [f"{left} leases have not returned"]
        time.sleep(0.5)
