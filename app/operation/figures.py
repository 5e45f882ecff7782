"""Figures for Prometheus. They come from the database, so that every web process tells the same."""

import shutil
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from sqlalchemy import text

from app.database import SessionFactory
from app.operation.condition import SILENT_SECONDS
from app.settings import Settings

_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM judgments WHERE state = 'given') AS judgments,
           (SELECT count(*) FROM judgments WHERE surplus) AS surplus_judgments,
           (SELECT count(*) FROM assignments WHERE state = 'open' AND expires_at > :now) AS open_assignments,
           (SELECT count(*) FROM slots WHERE judgment_id IS NULL AND assignment_id IS NULL) AS free_slots,
           (SELECT count(*) FROM runs WHERE state = 'running') AS running_runs,
           (SELECT count(*) FROM procrastinate_workers
            WHERE last_heartbeat > CAST(:now AS timestamptz) - make_interval(secs => :silent)) AS workers
    """
)
_MEANING = {
    "judgments": "Verdicts given, every revision",
    "surplus_judgments": "Verdicts whose slot had been filled meanwhile",
    "open_assignments": "Comparisons on somebody's screen",
    "free_slots": "Judgments wanted that nobody is at",
    "running_runs": "Training runs under way",
    "workers": "Workers with a heartbeat",
}


def figures(settings: Settings, sessions: SessionFactory, *, now: datetime) -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry()
    with sessions() as session:
        row = session.execute(_COUNTS, {"now": now, "silent": SILENT_SECONDS}).one()
        jobs = session.execute(text("SELECT status, count(*) FROM procrastinate_jobs GROUP BY status")).all()
    for name, meaning in _MEANING.items():
        Gauge(f"palate_{name}", meaning, registry=registry).set(getattr(row, name))
    by_status = Gauge("palate_jobs", "Background jobs", ["status"], registry=registry)
    for status, count in jobs:
        by_status.labels(status).set(count)
    free = shutil.disk_usage(settings.data_dir).free
    Gauge("palate_disk_free_bytes", "Free where Palate keeps its data", registry=registry).set(free)
    return generate_latest(registry)
