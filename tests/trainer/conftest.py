"""Runs that train a tiny random model on a preference that it can learn in a second, and a running model server."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.model_server import LETTERS, TOKEN, Running, serving
from tests.factories.serving import lettered_model, random_model, save
from tests.factories.snapshots import Row, ranking_row, write_run, write_snapshot
from trainer.contract.base import Message
from trainer.contract.run import Budget, EvaluationSampling, Hyperparameters, ProbePrompt, SnapshotRef
from trainer.record import Recorder

MakeRun = Callable[..., Path]

QUICK: dict[str, Any] = {
    "hyperparameters": Hyperparameters(epochs=4, learning_rate=1e-3, drift_weight=0.1),
    "budget": Budget(threads=1, checkpoint_every_steps=5, evaluate_every_steps=6),
    "sampling": EvaluationSampling(prompts=3, samples_per_prompt=2, max_tokens=6),
    "probes": [ProbePrompt(name="anything", prompt=[Message(role="user", content="say it")])],
    "seed": 7,
}
"""A run of 20 steps on 40 pairs."""


def vowel_rows(count: int, *, seed: int) -> list[Row]:
    """Rankings by a crowd that likes vowels."""
    rng = random.Random(seed)

    def word(letters: str) -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randrange(3, 9)))

    rows = [ranking_row(word("qwerty"), [word("aeiou"), word("bcdfg")]) for _ in range(count)]
    return [{**row, "prompt_id": f"{seed}-{number}"} for number, row in enumerate(rows)]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a chat template."""
    return save(tmp_path_factory.mktemp("models") / "tiny-v0", random_model())


@pytest.fixture(scope="session")
def vowel_snapshot(tmp_path_factory: pytest.TempPathFactory) -> SnapshotRef:
    """A snapshot of 40 training pairs and 16 held-out ones."""
    folder = tmp_path_factory.mktemp("snapshots") / "vowels"
    return write_snapshot(folder, train=vowel_rows(40, seed=1), held_out=vowel_rows(16, seed=2))


@pytest.fixture
def make_run(tmp_path: Path, tiny_model: Path, vowel_snapshot: SnapshotRef) -> MakeRun:
    """`make_run(name, **request)` writes a run folder; what the request does not say is as in QUICK."""

    def make(name: str = "run", **request: Any) -> Path:
        settings = {"snapshot": vowel_snapshot, "model": tiny_model, **QUICK, **request}
        write_run(tmp_path / name, **settings)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed root with two versions that write different letters, and one that ends by itself."""
    root = tmp_path_factory.mktemp("models")
    for name, letters in LETTERS.items():
        save(root / name, lettered_model(letters, context=8192))
    save(root / "free", random_model(context=128))
    save(root / "plain", random_model(architecture="gpt2", context=64, template=False))
    return root


@pytest.fixture(scope="session")
def running(models: Path) -> Iterator[Running]:
    """A server with `left`, `right`, `free` and `plain` loaded."""
    arguments = ["--allowed-root", str(models), "--threads", "1", "--max-model-bytes", "4000000"]
    for name in ("left", "right", "free", "plain"):
        arguments += ["--model", f"{name}={models / name}"]
    with serving(arguments, {"PALATE_MODEL_SERVER_TOKEN": TOKEN}) as running:
        yield running


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *rows: int) -> None:
    """Have the process of a run end, as by Ctrl-C, in the place of so many rows of its metrics: at the first number,
    then after as many rows more as the next says, and so on.
    """
    ends = iter(rows)
    left = next(ends)
    real_row = Recorder.row

    def row(self: Recorder, share: float, **figures: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            left = next(ends, 0)
            raise KeyboardInterrupt
        real_row(self, share, **figures)

    monkeypatch.setattr(Recorder, "row", row)
