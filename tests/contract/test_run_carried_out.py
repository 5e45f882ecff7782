"""The app asks, the trainer trains, the app follows and takes in what came of it: the run folder from both sides."""

from sqlalchemy import select

from app.audit import AuditEntry
from app.datasets.models import Snapshot
from app.deployments.service import current_version, deployment_history
from app.training.carrying_out import carry_out
from app.training.models import RunState
from tests.training.conftest import Shop, shop, tiny_base  # noqa: F401  (fixtures)
from trainer.contract.files import read_json, weights_sha256
from trainer.contract.report import Report
from trainer.contract.run import REQUEST_FILE, RunRequest


def test_a_run_goes_from_judgments_to_a_version_that_is_registered_judged_and_deployed(shop: Shop) -> None:  # noqa: F811
    run_id = shop.ask()
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert run.state is RunState.SUCCEEDED, run.message
    request = read_json(shop.folder(run_id) / REQUEST_FILE, RunRequest)
    report = Report.model_validate(run.report)
    with shop.session() as session:
        snapshot = session.get_one(Snapshot, run.snapshot_id)
        assert request.snapshot.rows_sha256 == snapshot.rows_sha256 == report.hashes["rows_sha256"]
        assert (report.train_pairs, report.held_out_pairs, report.steps) == (24, 8, 12)
        assert len(report.probes) == 1
        assert run.model_version is not None
        version = run.model_version
        assert (version.name, request.version_name) == ("tiny-v1", "tiny-v1")
        assert version.path == str(shop.folder(run_id) / "model")
        assert version.sha256 == report.hashes["model"] == weights_sha256(shop.folder(run_id) / "model")
        assert {check["name"] for check in run.gate or []} >= {"held_out_margins", "drift", "malformed_text", "probes"}
        blocked = any(check["blocks"] for check in run.gate or [])
        serving = current_version(session, line_id=shop.line_id).name
        assert serving == ("tiny-v0" if blocked else "tiny-v1")
        deeds = set(session.scalars(select(AuditEntry.action)))
    assert deeds >= {"run.requested", "run.succeeded"}
    assert run.fraction == 1
    assert "Step 12 of 12" in run.log
    assert sum("loss" in row for row in run.metrics) == 12
    carry_out(shop.place, run_id=run_id)
    with shop.session() as session:
        assert len(deployment_history(session, line_id=shop.line_id)) == (1 if blocked else 2)
