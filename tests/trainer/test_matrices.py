"""What multiplies matrices: both libraries give the same, and the faster one is taken where it may be oneDNN."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.factories.serving import random_model
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at
from tests.trainer.test_ranks import curve_of
from tests.trainer.test_run import report_of
from trainer import completion_head
from trainer.completion_head import Distributions, completion_logps
from trainer.contract.report import Outcome
from trainer.contract.run import Matrices
from trainer.logps import fitting_scorer
from trainer.matrices import faster, fitting_matrices, may_be_faster, multiplied_by, seconds_of_both
from trainer.packing import Tree
from trainer.run import ExitCode, run

TREES = [Tree((5, 6, 7, 8), ((11, 12, 13), (14, 1))), Tree((9, 10), ((21, 22, 1), (23, 24, 25, 26, 1)))]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_log_probabilities_and_gradients_are_the_same_by_either(architecture: str) -> None:
    found = []
    for matrices in Matrices:
        scorer = fitting_scorer(random_model(architecture=architecture, seed=2)[0])
        scorer.matrices = matrices
        logps = scorer.score(TREES).logps
        logps.sum().backward()
        found.append((logps.detach(), {name: each.grad for name, each in scorer.model.named_parameters()}))
    (logps, gradients), (others, other_gradients) = found
    torch.testing.assert_close(others, logps, rtol=1e-6, atol=0)
    for name, gradient in gradients.items():
        assert (other_gradients[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-6, name


def test_linear_layers_do_go_through_the_other_library() -> None:
    inputs, weight, bias = torch.randn(3, 4, 8), torch.randn(5, 8, requires_grad=True), torch.randn(5)
    with torch.profiler.profile() as seen, multiplied_by(Matrices.ONEDNN):
        found = functional.linear(inputs, weight, bias)
    assert "mkldnn::_linear_pointwise" in {event.key for event in seen.key_averages()}
    torch.testing.assert_close(found, functional.linear(inputs, weight, bias))
    with torch.profiler.profile() as seen:
        torch.autograd.grad(found.sum(), weight)
    assert "mkldnn::_linear_pointwise" in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize("biased", [False, True])
def test_the_head_is_the_same_by_either(kept: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_head, "PIECE_LOGITS", {"cpu": 40})
    torch.manual_seed(3)
    hidden, weight = torch.randn(7, 6), torch.randn(20, 6)
    bias = torch.randn(20) if biased else None
    targets, there = torch.randint(0, 20, (7,)), torch.randn(7, 20).log_softmax(-1)
    found = []
    for matrices in Matrices:
        leaves = [each.clone().requires_grad_() for each in (hidden, weight, *([bias] if bias is not None else []))]
        own_bias = leaves[2] if biased else None
        logps, drift = completion_logps(
            leaves[0], leaves[1], own_bias, targets, Distributions(there), matrices=matrices, most_kept=kept
        )
        (logps.sum() + 2 * drift.sum()).backward()
        found.append([logps.detach(), drift.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_other_library_is_tried_where_a_cpu_has_what_the_first_leaves_aside(tmp_path: Path) -> None:
    for text, expected in {
        "vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f avx512_bf16": True,
        "vendor_id : AuthenticAMD\nflags : fpu avx2": False,
        "vendor_id : GenuineIntel\nflags : fpu avx2 avx512f": False,
    }.items():
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        assert may_be_faster(path) is expected, text
    assert not may_be_faster(tmp_path / "none")


def test_the_faster_one_is_taken_by_a_clear_lead_alone() -> None:
    assert faster(1.5, 1.0) is Matrices.ONEDNN
    assert faster(1.1, 1.0) is Matrices.TORCH
    assert faster(1.0, 2.0) is Matrices.TORCH
    assert all(0 < seconds < 60 for seconds in seconds_of_both(64))
    model = random_model()[0]
    assert fitting_matrices(model) in ([*Matrices] if may_be_faster() else [Matrices.TORCH])
    assert fitting_matrices(model.to(torch.bfloat16)) is Matrices.TORCH


def test_a_run_keeps_what_it_began_with_and_learns_the_same(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_run("plain")
    assert run(plain) == ExitCode.DONE
    other = make_run("other", budget=QUICK["budget"].model_copy(update={"matrices": Matrices.ONEDNN}))
    with monkeypatch.context() as patched:
        interrupt_at(patched, 30)
        with pytest.raises(KeyboardInterrupt):
            run(other)
    assert (other / "checkpoints" / "matrices").read_text() == "onednn"
    assert run(other) == ExitCode.DONE
    assert report_of(other).state is Outcome.SUCCEEDED
    assert curve_of(other) == pytest.approx(curve_of(plain), rel=1e-4)
