"""The gate on real trainings of the starter model: what is good passes, what is broken or taught wrongly does not."""

from pathlib import Path

import pytest
import torch

from app.settings import ROOT
from app.training.gate.checks import Verdict
from app.training.gate.judging import is_blocked, judge, preference_verdict
from tests.factories.judged import judged_rankings, likes_friendly
from tests.factories.snapshots import Row, write_run, write_snapshot
from trainer.contract.files import read_json
from trainer.contract.report import Outcome, Report
from trainer.contract.run import REPORT_FILE, Budget, ProbePrompt, RunRequest
from trainer.evaluate import evaluate_versions
from trainer.models import load_model
from trainer.run import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STARTER = ROOT / "trainer" / "starter" / "model"
PROBES = [
    ProbePrompt.model_validate_json(line)
    for line in (ROOT / "trainer" / "starter" / "data" / "probes.jsonl").read_text().splitlines()
]
Judged = tuple[list[Row], list[Row]]


@pytest.fixture(scope="module")
def judged() -> Judged:
    """What somebody who likes friendly completions said of 150 comparisons that they did not call a tie."""
    return judged_rankings(STARTER, likes_friendly, decided=150, seed=11)


def requested(folder: Path, *, train: list[Row], held_out: list[Row]) -> RunRequest:
    """A run on these judgments, as Palate requests it by default."""
    snapshot = write_snapshot(folder / "snapshot", train=train, held_out=held_out)
    return write_run(folder / "run", snapshot=snapshot, model=STARTER, probes=PROBES, budget=Budget(threads=1))


def trained(folder: Path, *, train: list[Row], held_out: list[Row]) -> Report:
    """The report of a real run on these judgments."""
    requested(folder, train=train, held_out=held_out)
    run(folder / "run")
    report = read_json(folder / "run" / REPORT_FILE, Report)
    assert report.state is Outcome.SUCCEEDED, report.message
    return report


def flipped(rows: list[Row]) -> list[Row]:
    """The same comparisons with the other completion preferred."""
    return [{**row, "ranks": [max(row["ranks"]) + 1 - rank for rank in row["ranks"]]} for row in rows]


def damaged(folder: Path, *, noise: float) -> Path:
    """The starter with noise in its weights, `noise` times as large as the weights of each matrix vary."""
    model, tokenizer = load_model(STARTER)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.add_(noise * parameter.std() * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_version_that_learned_what_was_preferred_passes_and_is_called_better(tmp_path: Path, judged: Judged) -> None:
    train, held_out = judged
    checks = judge(trained(tmp_path, train=train, held_out=held_out))
    assert not is_blocked(checks), [check.message for check in checks if check.blocks]
    assert preference_verdict(checks) is Verdict.BETTER


def test_a_version_trained_on_flipped_preferences_is_refused_by_the_held_out_checks(
    tmp_path: Path, judged: Judged
) -> None:
    train, held_out = judged
    checks = judge(trained(tmp_path, train=flipped(train), held_out=held_out))
    assert is_blocked(checks)
    assert preference_verdict(checks) is Verdict.WORSE
    assert "held_out_margins" in {check.name for check in checks if check.blocks}


@pytest.mark.parametrize(("noise", "named"), [(0.4, {"drift", "probes"}), (0.8, {"drift", "probes", "malformed_text"})])
def test_a_version_damaged_by_noise_in_its_weights_is_refused_by_name(
    tmp_path: Path, judged: Judged, noise: float, named: set[str]
) -> None:
    train, held_out = judged
    request = requested(tmp_path, train=train, held_out=held_out)
    report = evaluate_versions(request, before=STARTER, after=damaged(tmp_path / "damaged", noise=noise))
    checks = judge(report)
    assert is_blocked(checks)
    assert {check.name for check in checks if check.blocks} >= named


def test_the_starter_compared_with_itself_neither_passes_as_better_nor_is_refused(
    tmp_path: Path, judged: Judged
) -> None:
    train, held_out = judged
    checks = judge(
        evaluate_versions(requested(tmp_path, train=train, held_out=held_out), before=STARTER, after=STARTER)
    )
    assert not is_blocked(checks)
    assert preference_verdict(checks) is Verdict.UNCLEAR
