"""Gradient checkpointing: the same gradients, with less kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.factories.adapters import moved
from tests.factories.serving import random_model
from tests.trainer.conftest import MakeRun
from tests.trainer.test_run import numbers_of, report_of
from tests.trainer.test_trunk import GROUPS, TREES, gradients, keeping, top_scorer
from trainer import memory
from trainer.adapters import new_adapter, train_adapter_alone
from trainer.contract.report import Outcome
from trainer.contract.run import Matrices
from trainer.drawing import Drawing, draw_completions
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import Limits, bytes_per_token, fitting_limits, fixed_bytes
from trainer.run import ExitCode, run

RECOMPUTING = Limits(recompute=True)


def trained(architecture: str, *, adapter: bool) -> Scorer:
    """A model in training."""
    model, _ = random_model(architecture=architecture, seed=4)
    if adapter:
        new_adapter(model, rank=4, alpha=8, seed=1)
        moved(model)
        train_adapter_alone(model)
    return fitting_scorer(model)


def all_gradients(scorer: Scorer) -> torch.Tensor:
    """Of whatever is trained, after a forward and backward."""
    scorer.score(TREES).logps.sum().backward()  # type: ignore[no-untyped-call]
    return torch.cat([each.grad.flatten() for each in scorer.model.parameters() if each.grad is not None])


@pytest.mark.parametrize("matrices", Matrices)
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_gradients_are_those_of_a_plain_backward(architecture: str, adapter: bool, matrices: Matrices) -> None:
    plainly, scorer = (trained(architecture, adapter=adapter) for _ in range(2))
    plainly.matrices = scorer.matrices = matrices
    scorer.limits = RECOMPUTING
    assert torch.equal(all_gradients(scorer), all_gradients(plainly))
    assert not [module for module in scorer.model.modules() if "forward" in module.__dict__]


def test_gradients_over_kept_layers_are_the_same_too(tmp_path: Path) -> None:
    found = []
    for limits in (Limits(), RECOMPUTING):
        scorer = top_scorer()
        scorer.limits = limits
        with keeping(scorer, tmp_path, memory_bytes=10**9):
            found.append(gradients(scorer, GROUPS))
    assert torch.equal(found[0], found[1])


def test_autocast_is_the_same_when_a_layer_is_done_again() -> None:
    found = []
    for limits in (Limits(), RECOMPUTING):
        model, _ = random_model(seed=4)
        scorer = fitting_scorer(model, autocast=torch.bfloat16)
        scorer.limits = limits
        found.append(all_gradients(scorer))
    assert torch.equal(found[0], found[1])


def kept_bytes(scorer: Scorer) -> int:
    """What the graph of a forward holds on to: saved tensors, each storage once, weights apart."""
    return memory._kept_bytes(scorer, TREES[0])


def test_less_is_kept() -> None:
    scorer = trained("llama", adapter=False)
    plain = kept_bytes(scorer)
    scorer.limits = RECOMPUTING
    assert kept_bytes(scorer) < plain / 3


def test_a_model_that_recomputes_still_draws_with_its_cache() -> None:
    drawing = Drawing(copies=2, temperature=1.0, top_p=1.0, max_tokens=8, seed=1)
    scorer = trained("llama", adapter=True)
    plain = draw_completions(scorer.model, [[5, 6, 7]], drawing, end_ids={1})
    scorer.limits = RECOMPUTING
    all_gradients(scorer)
    assert draw_completions(scorer.model, [[5, 6, 7]], drawing, end_ids={1}) == plain


def test_layers_recompute_where_the_longest_tree_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = trained("llama", adapter=True)
    longest = max(tree.read_tokens for tree in TREES)
    for tokens, expected in ((longest, False), (longest - 1, True)):
        left = memory.HEAP_BYTES + fixed_bytes(scorer.model) + 4 * tokens * bytes_per_token(scorer)
        monkeypatch.setattr(memory, "bytes_left", lambda device, left=left: left)
        assert fitting_limits(scorer, TREES).recompute is expected
    assert not fitting_limits(scorer).recompute


def test_a_run_short_of_memory_says_so_recomputes_and_ends_with_the_same_numbers(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plain, short = make_run("plain"), make_run("short")
    assert run(plain) == ExitCode.DONE
    assert "more than the memory that is left" not in caplog.text
    monkeypatch.setattr(memory, "bytes_left", lambda device: 0)
    seen: list[bool] = []
    through = Scorer.score

    def score(self: Scorer, *arguments: Any, **named: Any) -> Any:
        seen.append(self.limits.recompute and torch.is_grad_enabled())
        return through(self, *arguments, **named)

    monkeypatch.setattr(Scorer, "score", score)
    assert run(short) == ExitCode.DONE
    assert "more than the memory that is left" in caplog.text
    assert seen.count(True) >= 20
    assert report_of(short).state is Outcome.SUCCEEDED
    losses = [numbers_of(folder)["after"]["preferences"]["accuracy"] for folder in (plain, short)]
    assert losses[0] == losses[1]
