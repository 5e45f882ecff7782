"""People's real preferences, on the real models at hand."""

from pathlib import Path

import pytest

from tests.factories.hh_rlhf import hh_rlhf_rankings
from tests.factories.snapshots import Row, write_run, write_snapshot
from trainer.contract.files import read_json
from trainer.contract.report import Outcome, Report
from trainer.contract.run import REPORT_FILE, Budget, EvaluationSampling, Hyperparameters
from trainer.run import ExitCode, run
from trainer.starter import MODEL_FOLDER as STARTER

PREFERENCES = "preferences/hh_rlhf_harmless_base_test_part1.jsonl.gz"


@pytest.fixture(scope="module")
def rankings(real_data: Path) -> list[Row]:
    """The 1,205 pairs but for those that differ before the last turn."""
    return list(hh_rlhf_rankings(real_data / PREFERENCES))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(("model", "max_tokens"), [("starter", 256), ("models/tinystories-260k", None)])
def test_a_model_trains_on_real_preferences_and_every_pair_is_accounted_for(
    model: str, max_tokens: int | None, rankings: list[Row], real_data: Path, tmp_path: Path
) -> None:
    held_out = rankings[::10]
    train = [row for number, row in enumerate(rankings) if number % 10]
    snapshot = write_snapshot(tmp_path / "hh", train=train, held_out=held_out)
    write_run(
        tmp_path / "run",
        snapshot=snapshot,
        model=STARTER if model == "starter" else real_data / model,
        hyperparameters=Hyperparameters(max_tokens=max_tokens),
        budget=Budget(threads=1, max_steps=12),
        sampling=EvaluationSampling(prompts=8, samples_per_prompt=2, max_tokens=32),
    )
    assert run(tmp_path / "run") == ExitCode.DONE
    report = read_json(tmp_path / "run" / REPORT_FILE, Report)
    assert report.state is Outcome.SUCCEEDED
    assert report.rankings == len(rankings) >= 1200
    assert report.train_pairs + report.held_out_pairs + sum(report.dropped.values()) == len(rankings)
    assert report.dropped["over_long"] > 100
    assert 0 < report.dropped["empty"] < 10
    assert report.steps == 12
    assert report.after is not None
    assert report.after.preferences.accuracy is not None
    assert report.after.preferences.reward_accuracy is not None
