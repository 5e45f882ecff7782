"""Reading what the trainer leaves, and writing what it is told, in a folder that either side may leave half done."""

import json
import logging
from pathlib import Path

import pytest

from app.errors import Conflict
from app.training.run_folder import (
    KEPT_EVALUATIONS,
    Metrics,
    Starts,
    Watched,
    add_to_log,
    end_of_log,
    read_starts,
    thinned,
    write_request,
    write_starts,
)
from tests.conftest import NOW
from trainer.contract.files import read_json
from trainer.contract.logs import readable
from trainer.contract.run import (
    LOG_FILE,
    METRICS_FILE,
    SAMPLES_FILE,
    Budget,
    MetricsRow,
    ModelRef,
    RunRequest,
    SnapshotRef,
    Stage,
)
from trainer.contract.watching import WatchedSamples


def row(step: int, **given: object) -> MetricsRow:
    """A row of the training stage."""
    values = {"at": NOW, "stage": Stage.TRAINING, "fraction": 0.3, "step": step, "total_steps": 1000, "loss": 0.5}
    return MetricsRow.model_validate({**values, **given})


def append(path: Path, *rows: MetricsRow) -> None:
    """Add lines as the trainer does."""
    with path.open("a") as file:
        file.writelines(each.model_dump_json(exclude_none=True) + "\n" for each in rows)


def test_metrics_are_read_piece_by_piece_and_a_half_written_line_waits(tmp_path: Path) -> None:
    path, metrics = tmp_path / METRICS_FILE, Metrics.of(tmp_path)
    assert not metrics.read_on()
    append(path, row(1, message="Step 1"))
    whole = row(2).model_dump_json()
    with path.open("a") as file:
        file.write(whole[:20])
    assert metrics.read_on()
    assert [each.step for each in metrics.chart_rows()] == [1]
    assert not metrics.read_on()
    with path.open("a") as file:
        file.write(whole[20:] + "\n")
    assert metrics.read_on()
    assert [each.step for each in metrics.chart_rows()] == [1, 2]
    assert metrics.message == "Step 1"


def test_after_a_resume_the_last_row_of_a_step_counts(tmp_path: Path) -> None:
    append(tmp_path / METRICS_FILE, row(1), row(2, loss=9.0), row(2, loss=0.4))
    metrics = Metrics.of(tmp_path)
    metrics.read_on()
    assert [each.loss for each in metrics.chart_rows()] == [0.5, 0.4]


def test_a_torn_line_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    append(path, row(1))
    with path.open("a") as file:
        file.write('{"at": "2026-\n')
    append(path, row(2))
    metrics = Metrics.of(tmp_path)
    metrics.read_on()
    assert [each.step for each in metrics.chart_rows()] == [1, 2]


def test_a_long_run_is_thinned_without_losing_its_ends_or_its_evaluations() -> None:
    rows = [row(step, held_out_accuracy=0.5 if step % 100 == 0 else None) for step in range(1, 5001)]
    kept = thinned(rows, limit=240)
    assert len(kept) <= 240
    assert (kept[0].step, kept[-1].step) == (1, 5000)
    assert sum(each.held_out_accuracy is not None for each in kept) == 50
    assert [each.step for each in kept] == sorted(each.step for each in kept)


def test_a_short_run_is_kept_whole() -> None:
    rows = [row(step) for step in range(100)]
    assert thinned(rows, limit=240) == rows


def evaluation(step: int, prompts: int = 0) -> str:
    """A line of samples; how many prompts tells one writing of a step from another."""
    prompt = {"prompt_id": "1", "prompt": [{"role": "user", "content": "Hello?"}], "samples": []}
    line = WatchedSamples.model_validate({"at": NOW, "step": step, "prompts": [prompt] * prompts})
    return line.model_dump_json() + "\n"


def test_samples_are_read_piece_by_piece_and_of_a_step_the_last_line_counts(tmp_path: Path) -> None:
    path, watched = tmp_path / SAMPLES_FILE, Watched.of(tmp_path)
    assert not watched.read_on()
    assert watched.kept() == []
    path.write_text(evaluation(0) + evaluation(20) + evaluation(40)[:15])
    assert watched.read_on()
    assert [each.step for each in watched.kept()] == [0, 20]
    assert not watched.read_on()
    path.write_text(evaluation(0) + evaluation(20) + evaluation(40) + "torn\n" + evaluation(20, prompts=1))
    assert watched.read_on()
    assert [(each.step, len(each.prompts)) for each in watched.kept()] == [(0, 0), (20, 1), (40, 0)]


def test_of_many_evaluations_some_are_kept_from_the_first_to_the_last(tmp_path: Path) -> None:
    (tmp_path / SAMPLES_FILE).write_text("".join(evaluation(20 * number) for number in range(100)))
    watched = Watched.of(tmp_path)
    watched.read_on()
    steps = [each.step for each in watched.kept()]
    assert len(steps) == KEPT_EVALUATIONS
    assert (steps[0], steps[-1]) == (0, 1980)
    assert steps == sorted(steps)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_warning_follows_in_the_log_in_the_form_of_the_log(tmp_path: Path, form: str) -> None:
    path = tmp_path / LOG_FILE
    path.write_text("before\n")
    add_to_log(path, "It forgets to end.", environment={"PALATE_LOG_FORMAT": form})
    first, second = path.read_text().splitlines()
    assert first == "before"
    assert "It forgets to end." in readable(second)
    assert (json.loads(second)["level"] if form == "json" else second.split()[2].lower()) == "warning"
    assert logging.getLogger("app.training").handlers == []


def test_the_end_of_a_log_begins_with_a_whole_line_that_the_database_takes(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert end_of_log(path) == ""
    path.write_bytes(b"first line\nsecond \x00 line\xff\n")
    assert end_of_log(path) == "first line\nsecond � line�\n"
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    end = end_of_log(path, characters=100)
    assert end.splitlines()[0].startswith("line ")
    assert end.endswith("line 4999\n")
    assert len(end) <= 100


def request(run_id: str = "7") -> RunRequest:
    """A request with nothing but what is needed."""
    model = ModelRef(name="tiny-v0", path="/models/tiny", sha256="a")
    return RunRequest(
        run_id=run_id,
        version_name="tiny-v1",
        snapshot=SnapshotRef(path="/s", rows_sha256="b"),
        base_model=model,
        start=model,
        reference=model,
    )


def test_a_request_is_written_once(tmp_path: Path) -> None:
    write_request(tmp_path / "7", request())
    path = tmp_path / "7" / "request.json"
    written = path.stat().st_mtime_ns
    write_request(tmp_path / "7", request())
    assert path.stat().st_mtime_ns == written
    assert json.loads(path.read_text())["run_id"] == "7"


def test_a_request_whose_folders_moved_is_brought_up_to_date_and_keeps_the_rest(tmp_path: Path) -> None:
    write_request(tmp_path, request())
    model = ModelRef(name="tiny-v0", path="/elsewhere/tiny", sha256="a")
    moved = request().model_copy(
        update={
            "snapshot": SnapshotRef(path="/elsewhere/s", rows_sha256="b"),
            "base_model": model,
            "start": model,
            "reference": model,
            "reference_cache": "/elsewhere/cache",
            "budget": Budget(threads=64),
        }
    )
    write_request(tmp_path, moved)
    assert read_json(tmp_path / "request.json", RunRequest) == moved.model_copy(update={"budget": request().budget})


def test_a_folder_of_another_run_is_not_taken_over(tmp_path: Path) -> None:
    write_request(tmp_path, request())
    with pytest.raises(Conflict, match="holds another run"):
        write_request(tmp_path, request("8"))


def test_starts_count_as_vain_only_while_the_run_gets_no_further(tmp_path: Path) -> None:
    starts = read_starts(tmp_path)
    for fraction, in_vain in [(0.0, 0), (0.0, 1), (0.3, 0), (0.3, 1), (0.3, 2), (0.2, 3), (0.5, 0)]:
        starts = starts.another(fraction)
        assert starts.in_vain == in_vain
        write_starts(tmp_path, starts)
        assert read_starts(tmp_path) == starts
    (tmp_path / "starts.json").write_text("{")
    assert read_starts(tmp_path) == Starts(in_vain=-1)
