"""A disk that is too small, or fills up while a run lasts: what is told, and what is left.

Disks that are really full are small ones in memory, which root alone may mount.
"""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from tests.factories.serving import random_model, save
from tests.factories.snapshots import model_ref, write_run
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at
from tests.trainer.test_run import failed, numbers_of, report_of
from trainer.checkpoints import save_best
from trainer.contract.files import write_whole
from trainer.contract.run import METRICS_FILE, MODEL_FOLDER, REPORT_FILE, Budget, SnapshotRef, Tuning
from trainer.models import load_model
from trainer.run import ExitCode, run, told
from trainer.stages import LEAST_FREE_BYTES
from trainer.tuning import Plan, needed_disk_bytes, write_version

DISK_BYTES = 48_000_000
LEFT_BYTES = LEAST_FREE_BYTES + 500_000
"""More than a report needs and less than `large_model` does."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("There is no mount command here.")
    if mounted.returncode:
        pytest.skip(f"No disk may be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture(scope="module")
def large_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2.7 MB, most of it positions that nothing reads."""
    return save(tmp_path_factory.mktemp("models") / "large-v0", random_model(architecture="gpt2", context=20_000))


def fill(disk: Path, *, left_bytes: int) -> None:
    """Have no more than so much left on a disk."""
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - left_bytes))


def filling_after(folder: Path, text: str) -> Callable[[], bool]:
    """What tells a run to go on, and fills its disk once a line of its metrics holds `text`."""

    def must_leave() -> bool:
        path = folder / METRICS_FILE
        if path.is_file() and text in path.read_text() and not (folder.parent / "filler").exists():
            fill(folder.parent, left_bytes=LEFT_BYTES)
        return False

    return must_leave


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({}, '"step":3,'),
        ({"stop_after_evaluations": 3, "checkpoint_every_steps": 15}, '"step":3,'),
        ({}, '"stage":"after"'),
    ],
    ids=["checkpoint", "best weights", "model"],
)
def test_a_disk_that_fills_up_is_told_and_the_run_can_be_gone_on_with(
    budget: dict[str, Any],
    text: str,
    small_disk: Path,
    large_model: Path,
    vowel_snapshot: SnapshotRef,
    make_run: MakeRun,
) -> None:
    settings = {**QUICK, "budget": QUICK["budget"].model_copy(update=budget)}
    unbroken, folder = make_run(model=large_model, budget=settings["budget"]), small_disk / "run"
    assert run(unbroken) == ExitCode.DONE
    write_run(folder, snapshot=vowel_snapshot, model=large_model, **settings)
    assert run(folder, must_leave=filling_after(folder, text)) == ExitCode.FAILED
    assert report_of(folder).message == f"The disk that holds {folder} is full. Free some space, then start a new run."
    assert list(folder.rglob("*.part")) == []
    (small_disk / "filler").unlink()
    (folder / REPORT_FILE).unlink()
    assert run(folder) == ExitCode.DONE
    assert numbers_of(folder) == numbers_of(unbroken)


def test_a_model_left_by_an_earlier_start_makes_room_for_the_one_that_is_written(
    small_disk: Path, large_model: Path
) -> None:
    model, _ = load_model(large_model)
    plan = Plan(Tuning.FULL, model_ref(large_model), large_model, merged=False)
    fill(small_disk, left_bytes=4_000_000)
    for _ in range(2):
        write_version(model, plan, small_disk / MODEL_FOLDER)
        assert (small_disk / MODEL_FOLDER / "model.safetensors").is_file()


@pytest.mark.parametrize("rows_until_interrupted", [10, 30, 35])
def test_a_run_is_not_refused_for_what_it_has_written_itself(
    make_run: MakeRun, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, rows_until_interrupted: int
) -> None:
    folder = make_run()
    weights = sum(parameter.nbytes for parameter in load_model(tiny_model)[0].parameters())
    disk_has_free(monkeypatch, folder, 2 * LEAST_FREE_BYTES + 10 * weights + 10_000)  # that of the report is held
    interrupt_at(monkeypatch, rows_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert run(folder) == ExitCode.DONE, report_of(folder).message


def test_the_weights_of_the_best_step_are_asked_room_for(
    make_run: MakeRun, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load_model(tiny_model)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    plan = Plan(Tuning.FULL, model_ref(tiny_model), tiny_model, merged=False)
    model.requires_grad_(True)
    assert needed_disk_bytes(model, plan, keeps_best=True) - needed_disk_bytes(model, plan) == 2 * weights
    folder = make_run(budget=Budget(threads=1, stop_after_evaluations=2))
    disk_has_free(monkeypatch, folder, 2 * LEAST_FREE_BYTES + 11 * weights)
    assert "Free some space" in failed(folder)


def disk_has_free(monkeypatch: pytest.MonkeyPatch, folder: Path, free_bytes: int) -> None:
    """Have the disk of a run seem to have so much left, but for what the run writes."""
    usage = shutil.disk_usage(folder)

    def taken_bytes() -> int:
        return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))

    began = taken_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free_bytes - taken_bytes() + began))


@contextmanager
def files_no_larger_than(most_bytes: int) -> Iterator[None]:
    """Have longer writes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    model, _ = random_model()
    (tmp_path / "note").write_bytes(b"as it was")
    with files_no_larger_than(20_000):
        with pytest.raises(RuntimeError):
            save_best(tmp_path, 5, model)
        with pytest.raises(OSError, match="File too large"):
            write_whole(tmp_path / "note", bytes(30_000))
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
    assert (tmp_path / "note").read_bytes() == b"as it was"


def test_a_full_disk_is_known_by_what_libraries_say_of_it(tmp_path: Path) -> None:
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "is full" in told(error, tmp_path)
