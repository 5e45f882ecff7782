"""How long until Palate works again: everything well, somebody's verdict acknowledged, and no job left behind."""

import time
from datetime import datetime

import httpx
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.clock import utc_now
from app.operation.condition import examine
from tests.faults import RECOVERY_SECONDS
from tests.faults.installation import Installation
from tests.faults.ledger import Ledger

LOOK_SECONDS = 0.2

LEFT_BEHIND = {
    "a job has no worker": """
        SELECT task_name FROM procrastinate_jobs WHERE status = 'doing'
          AND worker_id IS DISTINCT FROM (SELECT max(id) FROM procrastinate_workers)""",
    "a queue is stalled": "SELECT message FROM campaign_queues WHERE state = 'stalled'",
    "a run has no job": """
        SELECT id FROM runs WHERE state IN ('waiting', 'running') AND NOT EXISTS (
          SELECT FROM procrastinate_jobs AS jobs WHERE task_name = 'training:carry_out'
          AND status IN ('todo', 'doing') AND (args ->> 'run_id')::integer = runs.id)""",
    "a snapshot has no job": """
        SELECT id FROM snapshots WHERE state = 'waiting' AND NOT EXISTS (
          SELECT FROM procrastinate_jobs AS jobs WHERE status IN ('todo', 'doing')
          AND ((args ->> 'snapshot_id')::integer = snapshots.id OR task_name = 'training:carry_out'))""",
}


def seconds_to_recover(place: Installation, ledger: Ledger, *, patience: float = 3 * RECOVERY_SECONDS) -> float:
    """Wait until everything works again; seconds since the call. Raises TimeoutError, saying what does not."""
    begun = time.monotonic()
    began_at = utc_now()
    done_before = len(ledger.so_far())
    while True:
        wrong = _wrong(place, ledger, done_before=done_before, since=began_at)
        if not wrong:
            return time.monotonic() - begun
        if time.monotonic() - begun > patience:
            raise TimeoutError(f"after {patience:.0f} s: {'; '.join(wrong)}")
        time.sleep(LOOK_SECONDS)


def _wrong(place: Installation, ledger: Ledger, *, done_before: int, since: datetime) -> list[str]:
    try:
        ready = httpx.get(f"{place.palate.address}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError as error:
        return [f"the pages do not answer: {error}"]
    if ready.status_code != httpx.codes.OK:
        return [f"the pages are not ready: {ready.status_code}"]
    findings = examine(place.settings, place.sessions, now=utc_now())
    wrong = [f"{found.name}: {found.message}" for found in findings if not found.is_well and found.name != "disk"]
    if len(ledger.so_far()) == done_before:
        wrong.append("no verdict has been acknowledged since")
    try:
        wrong += _left_behind(place, since)
    except DBAPIError as error:
        wrong.append(f"the database does not answer: {error}")
    return wrong


def _left_behind(place: Installation, since: datetime) -> list[str]:
    with place.sessions() as session:
        beat = session.scalar(text("SELECT max(last_heartbeat) FROM procrastinate_workers"))
        wrong = [f"{what}: {found}" for what, query in LEFT_BEHIND.items() if (found := session.scalar(text(query)))]
    if beat is None or beat < since:
        wrong.append("no worker has shown itself since")
    return wrong
