"""Runs for tests, and the judgments that they need."""

from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.campaigns.models import Campaign
from app.datasets.models import Snapshot, SnapshotState
from app.deployments.models import ModelLine
from app.deployments.service import base_version, next_version_number
from app.training.models import Run, RunState
from app.training.service.ending import finish_run
from tests.conftest import NOW
from tests.factories.datasets import judge_generated
from trainer.contract.report import Report
from trainer.contract.run import Hyperparameters


def judge_pairs(
    session: Session, campaign: Campaign, *, train: int = 12, held_out: int = 4, first_is_better: bool = True
) -> None:
    """Judgments of two completions each, on so many prompts of either split; the first one is preferred."""
    for split, count in (("train", train), ("eval", held_out)):
        for number in range(count):
            judgment = judge_generated(
                session, campaign, f"Question {split} {number}?", first_is_better=first_is_better
            )
            comparison = judgment.comparison
            comparison.prompt.split = split
    session.commit()


def make_run(session: Session, line: ModelLine, *, by: User | None = None, **given: Any) -> Run:
    """A run that waits, but for what is given."""
    base = base_version(session, line_id=line.id)
    values: dict[str, Any] = {
        "state": RunState.WAITING,
        "method": "dpo",
        "hyperparameters": Hyperparameters().model_dump(mode="json"),
        "budget": {},
        "seed": 0,
        "version_number": next_version_number(session, line_id=line.id),
        "created_at": NOW,
        **given,
    }
    snapshot = Snapshot(
        name=f"{line.name} 1", line_id=line.id, state=SnapshotState.WAITING, policy={}, as_of=NOW, created_at=NOW
    )
    run = Run(
        line=line,
        snapshot=snapshot,
        base_version=base,
        start_version=base,
        reference_version=base,
        requested_by=by,
        **values,
    )
    session.add_all([snapshot, run])
    session.commit()
    return run


def finished_run(session: Session, line: ModelLine, report: Report, **given: Any) -> Run:
    """A run that has ended with a report; where it succeeded, registered, judged and perhaps deployed."""
    run = make_run(session, line, **{"state": RunState.RUNNING, "started_at": NOW, **given})
    if report.hashes.get("model") is None:
        report = report.model_copy(update={"hashes": {**report.hashes, "model": f"{run.id:064x}"}})
    finish_run(session, run_id=run.id, report=report, model_path=f"/runs/{run.id}/model", now=NOW)
    session.commit()
    return run
