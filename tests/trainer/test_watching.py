"""Samples drawn while training: the same prompts and luck each time, within their share, and without a trace."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories.serving import random_model
from tests.trainer.conftest import MakeRun
from tests.trainer.test_run import metrics_of, numbers_of, report_of
from trainer import pace
from trainer.contract.run import SAMPLES_FILE, EvaluationSampling, Hyperparameters, Stage
from trainer.contract.watching import WatchedSamples
from trainer.logps import fitting_scorer
from trainer.packing import Tokens
from trainer.record import Recorder
from trainer.run import ExitCode, run
from trainer.watching import kl_per_token

ALWAYS = EvaluationSampling(prompts=3, samples_per_prompt=2, max_tokens=6, watched_prompts=2, watched_share=1.0)


def watched(folder: Path) -> list[WatchedSamples]:
    """All lines of the run's samples."""
    path = folder / SAMPLES_FILE
    return (
        [WatchedSamples.model_validate_json(line) for line in path.read_text().splitlines()] if path.is_file() else []
    )


def written(folder: Path) -> dict[int, Any]:
    """What was written at each step; of a step's lines the last counts."""
    return {line.step: [prompt.model_dump() for prompt in line.prompts] for line in watched(folder)}


def test_the_same_prompts_are_asked_at_every_evaluation_with_the_luck_of_the_report(make_run: MakeRun) -> None:
    folder = make_run(sampling=ALWAYS)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    lines = watched(folder)
    assert [line.step for line in lines] == [0, 6, 12, 18, 20]
    for line in lines:
        assert [prompt.prompt_id for prompt in line.prompts] == [prompt.prompt_id for prompt in report.samples[:2]]
    for line, side in ((lines[0], "before"), (lines[-1], "after")):
        texts = [[sample.text for sample in prompt.samples] for prompt in line.prompts]
        assert texts == [[sample.text for sample in getattr(prompt, side)] for prompt in report.samples[:2]]


def test_metrics_tell_of_the_samples_and_of_held_out_pairs_from_the_start_on(make_run: MakeRun) -> None:
    folder = make_run(sampling=ALWAYS)
    run(folder)
    rows = [row.model_dump() for row in metrics_of(folder) if row.sample_kl is not None]
    assert [row["step"] for row in rows] == [0, 6, 12, 18, 20]
    assert rows[0]["sample_kl"] == pytest.approx(0, abs=1e-6)
    assert rows[-1]["sample_kl"] > 0.01
    for row in rows:
        assert row["held_out_pairs"] == 16
        assert row["held_out_chosen_logp"] < 0
        assert row["held_out_rejected_logp"] < 0
        assert 0 < row["sample_distinct"] <= 1
        assert 0 < row["sample_tokens"] <= 6
        assert 0 <= row["sample_unfinished"] <= 1
        assert 0 <= row["sample_repetition"] <= 1
    before = report_of(folder).before
    assert before is not None
    pairs = before.preferences.pairs
    assert rows[0]["held_out_chosen_logp"] == pytest.approx(sum(pair.chosen_logp for pair in pairs) / 16)


def test_a_run_ends_with_the_same_bits_whether_anyone_watches_or_not(make_run: MakeRun) -> None:
    seen = make_run("seen", sampling=ALWAYS)
    unseen = make_run("unseen", sampling=ALWAYS.model_copy(update={"watched_prompts": 0}))
    for folder in (seen, unseen):
        assert run(folder) == ExitCode.DONE
    assert numbers_of(seen) == numbers_of(unseen)
    assert len(watched(seen)) == 5
    assert not (unseen / SAMPLES_FILE).exists()
    assert all(row.sample_kl is None for row in metrics_of(unseen))


@pytest.mark.parametrize("at", [4, 11, 18, 25, 31])
def test_a_watched_run_interrupted_anywhere_ends_with_the_same_bits_and_samples(
    at: int, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken, broken = make_run("unbroken", sampling=ALWAYS), make_run("broken", sampling=ALWAYS)
    assert run(unbroken) == ExitCode.DONE
    rows = 0
    real_row = Recorder.row

    def row(self: Recorder, share: float, **figures: Any) -> None:
        nonlocal rows
        rows += 1
        if rows == at:
            raise KeyboardInterrupt
        real_row(self, share, **figures)

    monkeypatch.setattr(Recorder, "row", row)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    with (broken / SAMPLES_FILE).open("a") as file:
        file.write('{"at":"2026-11-2')  # what a kill leaves of a line
    assert run(broken) == ExitCode.DONE
    assert report_of(broken).resumed == 1
    assert numbers_of(broken) == numbers_of(unbroken)
    assert written(broken) == written(unbroken)
    assert all(row.held_out_accuracy is not None for row in metrics_of(broken) if row.sample_kl is not None)


def test_samples_keep_to_their_share_of_the_time_but_for_the_first_and_the_last_look(make_run: MakeRun) -> None:
    none_left = ALWAYS.model_copy(update={"watched_share": 0.0})
    folder = make_run(sampling=none_left)
    run(folder)
    assert [line.step for line in watched(folder)] == [0, 6, 20]
    steps = [
        row.step for row in metrics_of(folder) if row.held_out_accuracy is not None and row.stage is Stage.TRAINING
    ]
    assert steps == [6, 12, 18, 20], "held-out pairs are looked at all the same"


def test_speed_and_time_left_are_told_once_known_and_come_down(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.05)
    folder = make_run(hyperparameters=Hyperparameters(epochs=20), sampling=ALWAYS)
    run(folder)
    rows = metrics_of(folder)
    training = [row for row in rows if row.stage is Stage.TRAINING and row.loss is not None]
    assert training[0].seconds_left is None
    assert training[0].tokens_per_second is None
    told = [row.seconds_left for row in training if row.seconds_left is not None]
    assert len(told) > 50
    assert told[-1] < told[0]
    assert all(row.tokens_per_second for row in training if row.seconds_left is not None)
    assert [row.seconds_left for row in rows if row.stage is Stage.AFTER][-1] == 0


def test_the_kl_is_that_of_the_policy_to_the_reference_over_the_whole_vocabulary() -> None:
    policy, reference = (fitting_scorer(random_model(seed=seed)[0]) for seed in (4, 5))
    sequences = [Tokens((10, 11, 12), (20, 21, 1)), Tokens((10, 11, 12), (30, 1)), Tokens((13,), (40, 41, 42, 43))]
    total = 0.0
    for sequence in sequences:
        ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
        at = slice(len(sequence.prompt) - 1, -1)
        with torch.no_grad():
            ours, theirs = (
                scorer.model(input_ids=ids).logits[0, at].double().log_softmax(-1) for scorer in (policy, reference)
            )
        total += float((ours.exp() * (ours - theirs)).sum())
    assert kl_per_token(policy, reference, sequences) == pytest.approx(total / 9, rel=1e-4)
    assert kl_per_token(policy, policy, sequences) == pytest.approx(0, abs=1e-6)
    assert kl_per_token(policy, reference, sequences) != pytest.approx(
        kl_per_token(reference, policy, sequences), rel=1e-3
    )
