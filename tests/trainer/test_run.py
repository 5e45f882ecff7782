"""A training run from request to report, however often it is interrupted."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.factories.serving import random_model, save
from tests.factories.snapshots import Row, demonstration_row, model_ref, ranking_row, write_snapshot
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at, vowel_rows
from trainer import memory, stages
from trainer.contract.files import read_json, weights_sha256, write_json
from trainer.contract.report import Outcome, Report
from trainer.contract.run import (
    METRICS_FILE,
    MODEL_FOLDER,
    REPORT_FILE,
    REQUEST_FILE,
    Budget,
    Command,
    Control,
    Hyperparameters,
    Method,
    MetricsRow,
    ModelRef,
    SnapshotRef,
    Stage,
)
from trainer.models import load_model
from trainer.record import run_lock
from trainer.run import ExitCode, run, told

VARYING = {"started_at", "finished_at", "resumed", "seconds", "run_id"}
"""What may differ between the reports of two runs that did the same."""


def report_of(folder: Path) -> Report:
    """The run's report."""
    return read_json(folder / REPORT_FILE, Report)


def numbers_of(folder: Path) -> dict[str, Any]:
    """All that must be equal between a run that was interrupted and one that was not, the weights' hash included."""
    return report_of(folder).model_dump(exclude=VARYING)


def metrics_of(folder: Path) -> list[MetricsRow]:
    """All lines of the run's metrics."""
    return [MetricsRow.model_validate_json(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_a_run_trains_towards_what_was_preferred_and_reports_it(make_run: MakeRun, tiny_model: Path) -> None:
    folder = make_run()
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.state is Outcome.SUCCEEDED
    assert (report.rankings, report.train_pairs, report.held_out_pairs, report.steps) == (56, 40, 16, 20)
    assert report.before is not None
    assert report.after is not None
    assert report.before.preferences.reward_accuracy is None
    assert report.after.preferences.reward_accuracy is not None
    assert report.after.preferences.reward_accuracy > 0.9
    assert report.after.preferences.accuracy == 1
    assert report.before.behaviour.drift == 0 != report.after.behaviour.drift
    assert len(report.samples) == 3
    assert all(len(prompt.before) == len(prompt.after) == 2 for prompt in report.samples)
    assert report.probes[0].name == "anything"
    assert report.hashes["model"] == weights_sha256(folder / MODEL_FOLDER) != weights_sha256(tiny_model)


@pytest.mark.parametrize("method", [method for method in Method if method not in {Method.SFT, Method.REWARD_MODEL}])
def test_every_method_trains_towards_what_was_preferred(method: Method, make_run: MakeRun) -> None:
    settings = Hyperparameters(
        epochs=4, learning_rate=1e-3, drift_weight=0, beta=2.0 if method is Method.SIMPO else 0.2, label_smoothing=0.1
    )
    folder = make_run(method=method, hyperparameters=settings)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.before is not None
    assert report.after is not None
    assert report.after.preferences.reward_accuracy is not None
    assert report.after.preferences.reward_accuracy > 0.8


def test_metrics_show_a_falling_loss_and_a_bar_that_only_moves_forward(make_run: MakeRun) -> None:
    folder = make_run()
    run(folder)
    rows = metrics_of(folder)
    losses = [row.preference_loss for row in rows if row.stage is Stage.TRAINING and row.preference_loss is not None]
    assert len(losses) == 20
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])
    fractions = [row.fraction for row in rows]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert max(later - earlier for earlier, later in pairwise(fractions)) < 0.2
    assert [row.step for row in rows if row.held_out_accuracy is not None] == [0, 6, 12, 18, 20]
    assert list(dict.fromkeys(row.stage for row in rows)) == list(Stage)


def test_the_trained_model_loads_and_reads_text_as_its_start_does(make_run: MakeRun, tiny_model: Path) -> None:
    folder = make_run()
    run(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / MODEL_FOLDER / name).read_bytes() == (tiny_model / name).read_bytes()
    model, _ = load_model(folder / MODEL_FOLDER)
    assert model.num_parameters() == load_model(tiny_model)[0].num_parameters()


def test_weights_are_written_in_the_number_format_of_the_start(make_run: MakeRun, tmp_path: Path) -> None:
    model, tokenizer = random_model()
    start = save(tmp_path / "halves", (model.to(torch.bfloat16), tokenizer))
    folder = make_run(model=start)
    assert run(folder) == ExitCode.DONE
    weights = load_file(folder / MODEL_FOLDER / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


def test_the_same_request_gives_the_same_numbers_and_another_seed_others(make_run: MakeRun) -> None:
    folders = [make_run("a"), make_run("b"), make_run("c", seed=8)]
    for folder in folders:
        assert run(folder) == ExitCode.DONE
    assert numbers_of(folders[0]) == numbers_of(folders[1])
    assert report_of(folders[0]).hashes["model"] != report_of(folders[2]).hashes["model"]


@pytest.mark.parametrize("rows_until_interrupted", [4, 10, 16, 24, 33, 35])
def test_a_run_interrupted_anywhere_ends_with_the_same_numbers(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, rows_until_interrupted: int, unbroken: Path
) -> None:
    folder = make_run("broken")
    interrupt_at(monkeypatch, rows_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not (folder / REPORT_FILE).exists()
    monkeypatch.setattr(memory, "bytes_left", lambda device: 0)  # less is left now, which must not show
    assert run(folder) == ExitCode.DONE
    assert report_of(folder).resumed == 1
    assert numbers_of(folder) == numbers_of(unbroken)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, vowel_snapshot: SnapshotRef) -> Path:
    """A run that nothing interrupted."""
    from tests.factories.snapshots import write_run

    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    write_run(folder, snapshot=vowel_snapshot, model=tiny_model, **QUICK)
    assert run(folder) == ExitCode.DONE
    return folder


def started(folder: Path) -> subprocess.Popen[bytes]:
    """The trainer as the worker starts it."""
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", "run", str(folder)], stdout=log, stderr=subprocess.STDOUT
        )


def wait_for(folder: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Until a line of the metrics holds `text`."""
    while not ((folder / METRICS_FILE).is_file() and text in (folder / METRICS_FILE).read_text()):
        assert process.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.005)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_numbers(make_run: MakeRun) -> None:
    longer = Hyperparameters(epochs=40, learning_rate=1e-3)
    unbroken, killed = make_run("unbroken", hyperparameters=longer), make_run("killed", hyperparameters=longer)
    assert started(unbroken).wait() == ExitCode.DONE
    for instant in ('"stage":"before"', '"step":7,', '"step":61,', '"stage":"after"'):
        process = started(killed)
        wait_for(killed, instant, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / REPORT_FILE).exists()
    assert started(killed).wait() == ExitCode.DONE
    assert report_of(killed).resumed == 4
    assert report_of(killed).steps == 200
    assert numbers_of(killed) == numbers_of(unbroken)
    assert list(killed.rglob("*.part")) == []


@pytest.mark.slow
def test_a_run_told_to_leave_again_and_again_leaves_a_checkpoint_and_ends_with_the_same_numbers(
    make_run: MakeRun,
) -> None:
    longer = Hyperparameters(epochs=40, learning_rate=1e-3)
    seldom = Budget(threads=1, checkpoint_every_steps=1000, evaluate_every_steps=50)
    unbroken, left = (make_run(name, hyperparameters=longer, budget=seldom) for name in ("unbroken", "left"))
    assert started(unbroken).wait() == ExitCode.DONE
    asked = [('"stage":"before"', signal.SIGTERM), ('"step":7,', signal.SIGTERM), ('"step":90,', signal.SIGINT)]
    for instant, number in asked:
        process = started(left)
        wait_for(left, instant, process)
        process.send_signal(number)
        assert process.wait(20) == ExitCode.INTERRUPTED
        assert not (left / REPORT_FILE).exists()
        last = metrics_of(left)[-1]
        assert last.message == "Waiting to go on: the trainer was told to leave."
        steps = [row.step for row in metrics_of(left) if row.loss is not None]
        checkpoints = {path.name for path in (left / "checkpoints").glob("step-*")}
        assert checkpoints >= ({f"step-{steps[-1]}"} if steps else set())
    assert started(left).wait() == ExitCode.DONE
    assert report_of(left).resumed == 3
    assert [row.step for row in metrics_of(left) if row.loss is not None] == list(range(1, 201)), "no step was lost"
    assert numbers_of(left) == numbers_of(unbroken)


def test_a_paused_run_that_is_told_to_leave_does_not_wait_for_its_pause_to_end(make_run: MakeRun) -> None:
    folder = make_run()
    write_json(folder / "control.json", Control(command=Command.PAUSE))
    left = threading.Event()
    codes: list[ExitCode] = []
    thread = threading.Thread(target=lambda: codes.append(run(folder, must_leave=left.is_set)))
    thread.start()
    while not (folder / METRICS_FILE).is_file():
        time.sleep(0.01)
    left.set()
    thread.join(timeout=30)
    assert codes == [ExitCode.INTERRUPTED]
    assert [row.message for row in metrics_of(folder)] == [
        "Paused.",
        "Waiting to go on: the trainer was told to leave.",
    ]
    assert not (folder / REPORT_FILE).exists()


def test_a_line_half_written_by_a_kill_is_cut_off(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / METRICS_FILE).write_text('{"at":"2026-11-23T12:00:00Z","stage":"loading","fraction":0}\n{"at":"2026-1')
    run(folder)
    assert len(metrics_of(folder)) > 20


def test_a_run_that_has_ended_is_left_alone(make_run: MakeRun) -> None:
    folder = make_run()
    run(folder)
    before = (folder / REPORT_FILE).read_bytes()
    assert run(folder) == ExitCode.DONE
    assert (folder / REPORT_FILE).read_bytes() == before


def test_a_second_trainer_leaves_at_once(make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_run()
    with run_lock(folder), caplog.at_level(logging.INFO):
        assert run(folder) == ExitCode.BUSY
    assert "Another trainer" in caplog.text
    assert not (folder / REPORT_FILE).exists()


def test_a_folder_that_is_not_there_is_a_mistake_of_usage(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere") == ExitCode.USAGE


def test_a_cancelled_run_says_so_and_leaves_no_model(make_run: MakeRun) -> None:
    folder = make_run(hyperparameters=Hyperparameters(epochs=1000))
    codes: list[ExitCode] = []
    thread = threading.Thread(target=lambda: codes.append(run(folder)))
    thread.start()
    while not (folder / METRICS_FILE).is_file() or '"stage":"training"' not in (folder / METRICS_FILE).read_text():
        time.sleep(0.01)
    write_json(folder / "control.json", Control(command=Command.CANCEL))
    thread.join(timeout=30)
    report = report_of(folder)
    assert codes == [ExitCode.CANCELLED]
    assert report.state is Outcome.CANCELLED
    assert report.before is not None
    assert report.after is None
    assert not (folder / MODEL_FOLDER).exists()


def test_a_paused_run_stands_still_and_ends_with_the_same_numbers(make_run: MakeRun, unbroken: Path) -> None:
    folder = make_run()
    write_json(folder / "control.json", Control(command=Command.PAUSE))
    thread = threading.Thread(target=run, args=[folder])
    thread.start()
    while not (folder / METRICS_FILE).is_file():
        time.sleep(0.01)
    time.sleep(0.5)
    rows = metrics_of(folder)
    assert [row.message for row in rows] == ["Paused."]
    write_json(folder / "control.json", Control(command=Command.RUN))
    thread.join(timeout=60)
    assert numbers_of(folder)["hashes"] == numbers_of(unbroken)["hashes"]


def test_training_stops_at_its_budget(make_run: MakeRun) -> None:
    few = make_run("few", budget=Budget(threads=1, max_steps=3))
    brief = make_run("brief", hyperparameters=Hyperparameters(epochs=1000), budget=Budget(threads=1, max_seconds=0.2))
    for folder in (few, brief):
        assert run(folder) == ExitCode.DONE
    assert report_of(few).steps == 3
    assert 1 <= report_of(brief).steps < 5000


def test_reference_log_probabilities_are_kept_for_the_next_run(make_run: MakeRun, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, second = (make_run(name, reference_cache=str(cache)) for name in ("first", "second"))
    run(first)
    (folder,) = cache.iterdir()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sum(len(data.splitlines()) for data in kept.values()) == 2 * 56
    run(second)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    assert numbers_of(first) == numbers_of(second)


def test_what_a_gpu_rounds_is_kept_apart(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first, second = (make_run(name, reference_cache=str(cache)) for name in ("first", "second"))
    run(first)
    monkeypatch.setattr(stages, "autocast_dtype", lambda device: torch.bfloat16)
    run(second)
    plain, rounded = sorted(cache.iterdir())
    assert rounded.name == f"{plain.name}-bfloat16"
    assert [len(list(folder.iterdir())) for folder in (plain, rounded)] == [1, 1]


def test_a_start_other_than_the_reference_is_measured_against_it(make_run: MakeRun, tmp_path: Path) -> None:
    start = save(tmp_path / "start", random_model(seed=5))
    folder = make_run(start=model_ref(start))
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.before is not None
    assert report.before.preferences.reward_accuracy is not None
    assert report.before.behaviour.drift > 0
    assert report.hashes["start"] != report.hashes["reference"]


def failed(folder: Path) -> str:
    """The message of a run that fails."""
    assert run(folder) == ExitCode.FAILED
    report = report_of(folder)
    assert report.state is Outcome.FAILED
    assert not (folder / MODEL_FOLDER).exists()
    return report.message


def test_a_missing_model_is_named(make_run: MakeRun) -> None:
    message = failed(make_run(start=ModelRef(name="gone-v3", path="/nowhere/gone-v3", sha256="0")))
    assert message == "There is no model folder at /nowhere/gone-v3. Restore it, or choose another model."


def test_a_changed_model_is_refused(make_run: MakeRun, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    reference = model_ref(tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text((tiny_model / "config.json").read_text() + " ")
    assert "have changed" in failed(make_run(reference=reference))


def test_weights_that_could_run_code_are_refused(make_run: MakeRun, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    message = failed(make_run(start=ModelRef(name="p", path=str(tmp_path / "pickled"), sha256="0")))
    assert "no .safetensors file" in message


def test_another_snapshot_is_refused(make_run: MakeRun, vowel_snapshot: SnapshotRef) -> None:
    wrong = vowel_snapshot.model_copy(update={"rows_sha256": "0" * 64})
    assert "another snapshot" in failed(make_run(snapshot=wrong))


def test_a_snapshot_without_a_pair_says_what_was_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [ranking_row("q", ["a", "b"], ranks=[1, 1]), ranking_row("q", ["a" * 200, "b"])]
    snapshot = write_snapshot(tmp_path / "ties", train=rows, held_out=vowel_rows(2, seed=3))
    folder = make_run(snapshot=snapshot)
    message = failed(folder)
    assert "1 pairs of completions judged equally good" in message
    assert "1 pairs with more tokens than the model reads" in message
    assert "Judge more comparisons" in message
    assert report_of(folder).dropped == {"tie": 1, "over_long": 1}


TWO = ["aeio", "bcd"]


@pytest.mark.parametrize(
    ("rows", "settings", "advice"),
    [
        ([], {}, "Judge more comparisons in which one completion is better"),
        ([ranking_row("q", TWO, ranks=[1, 1])], {}, "Judge more comparisons in which one completion is better"),
        ([ranking_row("q", TWO, ranks=[1, 1], all_bad=True)], {}, "Start a new run by KTO or BCO"),
        ([ranking_row("q", ["same", "same"])], {}, "Have completions sampled that differ"),
        ([ranking_row("q", ["aeio", " "])], {}, "Have completions sampled that say something"),
        ([ranking_row("q" * 9, TWO)], {"max_tokens": 8}, "Start a new run with a higher `max_tokens`"),
        ([ranking_row("q", TWO, criterion="kind")], {}, "in which the criteria that people judged by have a weight"),
        ([ranking_row("q", TWO)], {"overall_weight": 0}, "in which the overall verdict has a weight"),
        (
            [ranking_row("q", TWO) | {"judgments": 3, "agreement": 0.0}],
            {"reliability": "weight"},
            "in which every verdict counts the same",
        ),
    ],
    ids=["nothing", "tie", "all bad", "same text", "empty", "over long", "criterion", "overall", "disagreement"],
)
def test_a_snapshot_without_a_pair_gets_the_advice_that_helps(
    rows: list[Row], settings: dict[str, Any], advice: str, make_run: MakeRun, tmp_path: Path
) -> None:
    held_out = [ranking_row(f"held out {number}", TWO, ranks=[1, 1]) for number in range(4)]
    snapshot = write_snapshot(tmp_path / "snapshot", train=rows, held_out=held_out)
    message = failed(make_run(snapshot=snapshot, hyperparameters=Hyperparameters(**settings)))
    assert advice in message.partition("). ")[2]


def test_demonstrations_that_are_too_long_ask_for_shorter_ones_and_none_for_some(
    make_run: MakeRun, tmp_path: Path
) -> None:
    long = write_snapshot(tmp_path / "long", train=[], demonstrations=[demonstration_row("q", "a" * 200)])
    none = write_snapshot(tmp_path / "none", train=[])
    assert "write shorter ones" in failed(make_run("a", method=Method.SFT, snapshot=long))
    assert "Write some" in failed(make_run("b", method=Method.SFT, snapshot=none))


def test_a_model_that_training_has_damaged_asks_for_a_lower_learning_rate(make_run: MakeRun, tmp_path: Path) -> None:
    model, tokenizer = random_model()
    with torch.no_grad():  # all tokens are as likely until the norm's weight is other than zero
        model.model.norm.weight.zero_()
        model.get_output_embeddings().weight.sign_().mul_(1e38)
    start = save(tmp_path / "brittle", (model, tokenizer))
    settings = Hyperparameters(learning_rate=1, warmup_fraction=0, beta=1e-20, likelihood_weight=0, drift_weight=0)
    folder = make_run(
        model=start, hyperparameters=settings, budget=Budget(threads=1, max_steps=4, evaluate_every_steps=1)
    )
    assert failed(folder) == (
        "The model that is being trained computes values that are not numbers: training has gone astray. Start a new "
        "run with a lower learning rate."
    )
    assert metrics_of(folder)[-1].stage is Stage.TRAINING


def test_memory_that_runs_out_is_told_with_advice_whatever_the_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**50, dtype=torch.uint8)
    hidden = ValueError("The batch could not be made")
    hidden.__cause__ = of_torch.value
    for error in (of_torch.value, hidden, torch.OutOfMemoryError("CUDA out of memory."), MemoryError()):
        assert "too little memory for this model. Start a new run with a smaller model" in told(error, tmp_path)


def test_a_newer_request_asks_for_an_update(make_run: MakeRun) -> None:
    folder = make_run()
    content = json.loads((folder / REQUEST_FILE).read_text())
    (folder / REQUEST_FILE).write_text(json.dumps(content | {"format_version": 2, "novelty": 1}))
    assert "Update Palate" in failed(folder)


def test_a_request_that_is_not_understood_names_the_field(make_run: MakeRun) -> None:
    folder = make_run()
    content = json.loads((folder / REQUEST_FILE).read_text())
    content["hyperparameters"]["beta"] = -1
    (folder / REQUEST_FILE).write_text(json.dumps(content))
    assert "hyperparameters.beta" in failed(folder)


def test_a_damaged_start_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    model, tokenizer = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[7] = torch.nan
    start = save(tmp_path / "damaged", (model, tokenizer))
    assert "its weights are damaged" in failed(make_run(start=model_ref(start)))


def test_a_run_without_held_out_pairs_trains_and_says_that_it_has_none(make_run: MakeRun, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "no-eval", train=vowel_rows(12, seed=4))
    folder = make_run(snapshot=snapshot)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.after is not None
    assert report.after.preferences.accuracy is None
    assert report.held_out_pairs == 0
    assert len(report.samples) == 3


def test_a_full_disk_is_told_before_training_begins(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_200_000))
    assert "Free some space" in failed(make_run())


def test_a_model_without_chat_template_is_trained_on_plain_text(make_run: MakeRun, tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", random_model(template=False, architecture="gpt2"))
    folder = make_run(model=plain)
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.after is not None
    assert report.after.preferences.accuracy == 1


def test_a_tokenizer_without_padding_token_is_trained_on_as_any_other(make_run: MakeRun, tmp_path: Path) -> None:
    pairs = {"padded": random_model(), "unpadded": random_model()}
    model, tokenizer = pairs["unpadded"]
    tokenizer.pad_token = None
    model.config.pad_token_id = None
    folders = {name: make_run(f"run-{name}", model=save(tmp_path / name, pair)) for name, pair in pairs.items()}
    for folder in folders.values():
        assert run(folder) == ExitCode.DONE
    weights = {name: load_file(folder / MODEL_FOLDER / "model.safetensors") for name, folder in folders.items()}
    assert all(torch.equal(tensor, weights["padded"][name]) for name, tensor in weights["unpadded"].items())


def test_the_start_is_shown_on_the_very_pairs_that_are_looked_at_during_training(
    make_run: MakeRun, tmp_path: Path
) -> None:
    snapshot = write_snapshot(tmp_path / "many", train=vowel_rows(8, seed=1), held_out=vowel_rows(150, seed=2))
    settings = QUICK["hyperparameters"].model_copy(update={"learning_rate": 1e-12})
    folder = make_run(snapshot=snapshot, hyperparameters=settings)
    assert run(folder) == ExitCode.DONE
    seen = [row for row in metrics_of(folder) if row.held_out_accuracy is not None]
    assert len(seen) > 1
    assert {(row.held_out_pairs, row.held_out_accuracy) for row in seen} == {(128, seen[0].held_out_accuracy)}
    report = report_of(folder)
    assert (report.held_out_pairs, report.best_step) == (150, None)
    assert report.before is not None
    assert seen[0].held_out_accuracy != report.before.preferences.accuracy, "which is of all pairs"
