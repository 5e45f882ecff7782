"""What is kept of a training for a run that is taken up again, and what is not."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from tests.factories.serving import random_model
from trainer.checkpoints import TrainingState, discard_checkpoints, restore_checkpoint, save_best, save_checkpoint
from trainer.stopping import Progress


def training() -> tuple[PreTrainedModel, torch.optim.Optimizer]:
    """A model and its optimizer."""
    model = random_model()[0]
    return model, torch.optim.AdamW(model.parameters())


def names(folder: Path) -> set[str]:
    """All that lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_the_weights_of_two_best_steps_at_most_lie_side_by_side(tmp_path: Path) -> None:
    model, optimizer = training()
    save_best(tmp_path, 2, model)
    save_checkpoint(tmp_path, TrainingState(step=3, progress=Progress(best_step=2)), model, optimizer)
    for step in (4, 6, 8):
        save_best(tmp_path, step, model)
        assert names(tmp_path) == {"step-3", "best-2.pt", f"best-{step}.pt"}, "a run taken up again needs that of 2"
    save_checkpoint(tmp_path, TrainingState(step=9, progress=Progress(best_step=8)), model, optimizer)
    assert names(tmp_path) == {"step-3", "step-9", "best-8.pt"}


def test_what_a_kill_left_half_written_goes_when_the_run_is_taken_up_again_or_over(tmp_path: Path) -> None:
    for clean in (lambda: restore_checkpoint(tmp_path, *training()), lambda: discard_checkpoints(tmp_path)):
        (tmp_path / ".step-5.part").mkdir()
        (tmp_path / ".step-5.part" / "state.pt").write_bytes(b"half")
        (tmp_path / ".best-4.pt.part").write_bytes(b"half")
        clean()
        assert names(tmp_path) == set()
