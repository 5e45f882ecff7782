"""Whole runs by what else than pairs they learn from: demonstrations, completions by themselves, criteria; and those
that stop early."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories.snapshots import Row, demonstration_row, ranking_row, write_snapshot
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at, vowel_rows
from tests.trainer.test_run import metrics_of, numbers_of, report_of
from trainer.contract.report import Outcome, Report
from trainer.contract.run import Budget, Hyperparameters, Method, SnapshotRef
from trainer.logps import fitting_scorer
from trainer.models import load_model
from trainer.packing import Tokens
from trainer.run import ExitCode, run

SPLITS = ["train"] * 6 + ["eval"]
WRITTEN = [demonstration_row("say it", "aeiou", split=split, number=number) for number, split in enumerate(SPLITS)]


@pytest.fixture(scope="module")
def written_snapshot(tmp_path_factory: pytest.TempPathFactory) -> SnapshotRef:
    """Vowels preferred, and demonstrations of them, one on a held-out prompt."""
    folder = tmp_path_factory.mktemp("snapshots") / "written"
    return write_snapshot(folder, train=vowel_rows(40, seed=1), held_out=vowel_rows(16, seed=2), demonstrations=WRITTEN)


def carried_out(folder: Path) -> Report:
    """The report of a run that succeeded."""
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.state is Outcome.SUCCEEDED
    return report


def logp_of(folder: Path, text: str) -> float:
    """Of a completion of "say it" under the trained model, in nats."""
    from trainer.chat import completion_token_ids, prompt_token_ids
    from trainer.contract.base import Message

    model, tokenizer = load_model(folder)
    prompt = tuple(prompt_token_ids(tokenizer, [Message(role="user", content="say it")]))
    return fitting_scorer(model).sequence_logps([Tokens(prompt, tuple(completion_token_ids(tokenizer, text)))])[0]


def test_demonstrations_alone_are_learnt_and_no_preference(
    make_run: MakeRun, written_snapshot: SnapshotRef, tiny_model: Path
) -> None:
    settings = Hyperparameters(epochs=12, learning_rate=3e-3, batch_comparisons=3)
    folder = make_run(snapshot=written_snapshot, method=Method.SFT, hyperparameters=settings)
    report = carried_out(folder)
    assert (report.demonstrations, report.train_pairs, report.held_out_pairs, report.steps) == (6, 0, 16, 24)
    assert logp_of(folder / "model", "aeiou") > logp_of(tiny_model, "aeiou") + 5
    assert report.before is not None
    assert report.after is not None
    before, after = report.before.demonstrations, report.after.demonstrations
    assert before is not None
    assert after is not None
    tokens = 6  # five letters and the end
    assert (before.demonstrations, after.demonstrations) == (1, 1), "the one on a held-out prompt"
    assert before.logp_per_token == pytest.approx(logp_of(tiny_model, "aeiou") / tokens, rel=1e-4)
    assert after.logp_per_token == pytest.approx(logp_of(folder / "model", "aeiou") / tokens, rel=1e-4)
    losses = [row.loss for row in metrics_of(folder) if row.loss is not None]
    assert losses[-1] < losses[0] - 0.5
    assert all(row.margin is None for row in metrics_of(folder))


def test_demonstrations_are_learnt_before_preferences_where_asked_for(
    make_run: MakeRun, written_snapshot: SnapshotRef, tiny_model: Path
) -> None:
    settings = Hyperparameters(epochs=2, demonstration_epochs=8, learning_rate=1e-3, drift_weight=0.1)
    folder = make_run(snapshot=written_snapshot, hyperparameters=settings)
    report = carried_out(folder)
    assert (report.demonstrations, report.train_pairs, report.steps) == (6, 40, 8 + 10)
    assert report.after is not None
    assert report.after.preferences.reward_accuracy is not None
    assert report.after.preferences.reward_accuracy > 0.8
    assert logp_of(folder / "model", "aeiou") > logp_of(tiny_model, "aeiou")
    rows = [row for row in metrics_of(folder) if row.loss is not None]
    assert [row.step for row in rows if row.margin is None] == list(range(1, 9))
    assert rows[8].learning_rate == pytest.approx(1e-3), "each phase has a schedule of its own"


def test_without_a_learning_rate_each_phase_takes_its_own_by_size(
    make_run: MakeRun, written_snapshot: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.rates.stored_parameters", lambda folder: 2_000_000_000)
    settings = Hyperparameters(epochs=2, demonstration_epochs=2, warmup_fraction=0.5, drift_weight=0.1)
    folder = make_run(snapshot=written_snapshot, hyperparameters=settings)
    report = carried_out(folder)
    rows = [row for row in metrics_of(folder) if row.loss is not None]
    demonstrating = [row.learning_rate or 0 for row in rows if row.margin is None]
    preferring = [row.learning_rate or 0 for row in rows if row.margin is not None]
    assert max(demonstrating) == pytest.approx(2e-5)
    assert max(preferring) == pytest.approx(2e-6)
    assert report.learning_rate == pytest.approx(2e-6)


def test_a_run_does_not_lose_patience_while_demonstrations_are_learnt(
    make_run: MakeRun, written_snapshot: SnapshotRef
) -> None:
    settings = Hyperparameters(epochs=2, demonstration_epochs=12, learning_rate=1e-9, drift_weight=0.0)
    budget = Budget(threads=1, evaluate_every_steps=1, stop_after_evaluations=2)
    report = carried_out(make_run(snapshot=written_snapshot, hyperparameters=settings, budget=budget))
    assert report.steps >= 12 + 3, "accuracy is only looked at once preferences are learnt"
    assert report.stopped
    assert (report.best_step or 0) > 12


def test_rewards_of_demonstrations_are_no_anchor(make_run: MakeRun, written_snapshot: SnapshotRef) -> None:
    settings = Hyperparameters(epochs=1, demonstration_epochs=4, learning_rate=3e-3, drift_weight=0.0)
    folder = make_run(snapshot=written_snapshot, method=Method.BCO, hyperparameters=settings)
    carried_out(folder)
    anchors = [row.anchor for row in metrics_of(folder) if row.anchor is not None]
    assert anchors[0] == 0
    assert anchors[1] != 0


def test_demonstrations_may_make_anything_else_less_likely(make_run: MakeRun, tmp_path: Path) -> None:
    otherwise = [demonstration_row("say it", "?!?!?", number=number) for number in range(6)]
    snapshot = write_snapshot(
        tmp_path / "otherwise",
        train=vowel_rows(40, seed=1),
        held_out=vowel_rows(16, seed=2),
        demonstrations=otherwise,
    )
    settings = Hyperparameters(epochs=2, demonstration_epochs=12, learning_rate=1e-2, drift_weight=0.0)
    budget = Budget(threads=1, evaluate_every_steps=1, most_chosen_fall=1e-6)
    folder = make_run(snapshot=snapshot, hyperparameters=settings, budget=budget)
    report = carried_out(folder)
    falls = [row.held_out_chosen_fall for row in metrics_of(folder) if row.held_out_chosen_fall is not None]
    assert max(falls[:12]) > 1e-6
    assert report.steps > 12


def test_a_run_for_demonstrations_without_any_says_what_to_do(make_run: MakeRun) -> None:
    folder = make_run(method=Method.SFT)
    assert run(folder) == ExitCode.FAILED
    assert "Write some" in report_of(folder).message


def test_all_bad_alone_trains_a_method_that_looks_at_completions_by_themselves(
    make_run: MakeRun, tmp_path: Path
) -> None:
    def bad(number: int) -> Row:
        return ranking_row(f"q{number}", ["bcd", "fgb"], ranks=[1, 1], all_bad=True)

    snapshot = write_snapshot(tmp_path / "bad", train=[bad(number) for number in range(12)])
    settings = Hyperparameters(epochs=4, learning_rate=1e-3, drift_weight=0, likelihood_weight=0)
    report = carried_out(make_run("kto", snapshot=snapshot, method=Method.KTO, hyperparameters=settings))
    assert report.train_pairs == 0
    rewards = [row.reward for row in metrics_of(tmp_path / "kto") if row.reward]
    assert rewards[-1] < rewards[0] < 0
    assert run(make_run("dpo", snapshot=snapshot)) == ExitCode.FAILED


def test_criteria_alone_can_be_trained_on(make_run: MakeRun, tmp_path: Path) -> None:
    overall = vowel_rows(40, seed=1)
    rows = [{**row, "criterion": "calm", "ranks": row["ranks"][::-1]} for row in overall]
    snapshot = write_snapshot(tmp_path / "calm", train=[*overall, *rows], held_out=vowel_rows(16, seed=2))
    settings = Hyperparameters(
        epochs=4, learning_rate=1e-3, drift_weight=0.1, overall_weight=0, criteria_weights={"calm": 1.0}
    )
    report = carried_out(make_run(snapshot=snapshot, hyperparameters=settings))
    assert report.dropped == {"overall": 40}
    assert report.after is not None
    assert report.after.preferences.reward_accuracy is not None
    assert report.after.preferences.reward_accuracy < 0.2


@pytest.mark.parametrize("method", [Method.KTO, Method.BCO, Method.DPO])
def test_anchors_phases_and_the_best_weights_outlive_an_interruption(
    method: Method, make_run: MakeRun, written_snapshot: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Hyperparameters(epochs=3, demonstration_epochs=4, learning_rate=3e-3, drift_weight=0.1)
    budget = Budget(threads=1, checkpoint_every_steps=3, evaluate_every_steps=2, stop_after_evaluations=3)
    request: dict[str, Any] = {
        "snapshot": written_snapshot, "method": method, "hyperparameters": settings, "budget": budget
    }  # fmt: skip
    unbroken = make_run("unbroken", **request)
    carried_out(unbroken)
    folder = make_run("broken", **request)
    interrupt_at(monkeypatch, 18, 12, 5)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(folder)
    assert run(folder) == ExitCode.DONE
    assert report_of(folder).resumed > 0
    assert numbers_of(folder) == numbers_of(unbroken)


def test_a_run_that_learns_no_more_stops_with_the_weights_of_its_best_evaluation(
    make_run: MakeRun, tmp_path: Path
) -> None:
    settings = QUICK["hyperparameters"].model_copy(update={"epochs": 40.0})
    budget = Budget(threads=1, evaluate_every_steps=2, stop_after_evaluations=3)
    folder = make_run("early", hyperparameters=settings, budget=budget)
    report = carried_out(folder)
    assert "had not risen for 3 evaluations" in report.stopped
    assert report.steps < 200
    evaluated = {row.step: row for row in metrics_of(folder) if row.step and row.held_out_accuracy is not None}
    best = max(evaluated.values(), key=lambda row: (row.held_out_accuracy or 0, row.held_out_margin or 0))
    assert f"the weights of step {best.step}," in report.stopped
    assert report.after is not None
    assert report.after.preferences.accuracy == best.held_out_accuracy
    state = load_model(folder / "model")[0].state_dict()
    assert all(bool(torch.isfinite(weights).all()) for weights in state.values())


def test_a_run_that_makes_chosen_completions_unlikely_stops_and_says_so(make_run: MakeRun) -> None:
    settings = Hyperparameters(epochs=40, learning_rate=0.01, drift_weight=0, likelihood_weight=0)
    budget = Budget(threads=1, evaluate_every_steps=2, most_chosen_fall=0.2)
    report = carried_out(make_run(method=Method.APO_DOWN, hyperparameters=settings, budget=budget))
    assert "less likely" in report.stopped
    assert report.steps < 200
