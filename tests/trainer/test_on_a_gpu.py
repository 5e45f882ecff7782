"""What holds on a CPU, on a GPU in bfloat16: run where there is one, by `make gpu`."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from benchmarks.trainer import WORKLOADS, random_llama
from tests.factories.serving import random_model
from tests.trainer.conftest import MakeRun
from tests.trainer.test_flash_attention import found_and_gradients, some_attention
from tests.trainer.test_logps import OTHER, PLAIN, gradient_of, one_by_one, some_trees
from tests.trainer.test_loop import dpo, pair, ranking
from tests.trainer.test_run import numbers_of, report_of, started, wait_for
from trainer.adapters import new_adapter, train_adapter_alone
from trainer.contract.run import Budget, Hyperparameters, Method, Tuning
from trainer.devices import compute_repeatably
from trainer.flash_attention import FlashKernel, attend_in_segments
from trainer.groups import Group
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import Limits
from trainer.packing import Tree, packed
from trainer.rankings import Verdict
from trainer.ranks import ALONE, Ranks
from trainer.reference import Reference, prepare_reference
from trainer.run import ExitCode, run
from trainer.sharding import keep_together, reshard, shard, whole
from trainer.step import training_step
from trainer.tree_attention import _OverTrees

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
OF_BFLOAT16 = 2**-8
"""Half the distance between 1 and the next number."""


@pytest.fixture(autouse=True)
def repeatably() -> Iterator[None]:
    """As in a run."""
    assert torch.cuda.is_available(), "These tests are for a machine with a GPU."
    compute_repeatably()
    yield
    torch.use_deterministic_algorithms(False)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative, over all numbers."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("size", [8, 64, 128])
@pytest.mark.parametrize("key_heads", [2, 6])
def test_the_flash_kernel_finds_what_exact_attention_does(key_heads: int, size: int) -> None:
    pack = packed([*some_trees(8, longest=300), Tree((5,), ((6,),))], device=GPU)
    given = some_attention(pack, heads=6, key_heads=key_heads, size=size)
    expected = found_and_gradients(_OverTrees.apply(*given, size**-0.5, pack.trunks), given)
    there = [tensor.detach().to(GPU, torch.bfloat16).requires_grad_() for tensor in given]
    assert FlashKernel.takes(there[0], there[2])
    found = found_and_gradients(attend_in_segments(*there, size**-0.5, pack.layout, FlashKernel()), there)
    assert max(distance(one, other) for one, other in zip(found, expected, strict=True)) < 3 * OF_BFLOAT16


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("architecture", [*PLAIN, *OTHER])
def test_log_probabilities_and_gradients_are_within_rounding(architecture: str, recompute: bool) -> None:
    model, _ = random_model(architecture=architecture)
    trees = some_trees(6, longest=40)
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    weights = torch.rand(len(sequences), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([one_by_one(model, sequence) for sequence in sequences])
    expected_gradient = joined(gradient_of(model, (weights * expected).sum()))
    scorer = fitting_scorer(model.to(GPU), autocast=torch.bfloat16)
    scorer.limits = Limits(recompute=recompute)
    assert scorer.in_trees == (architecture in PLAIN)
    found = scorer.score(trees).logps
    gradient = joined(gradient_of(model, (weights.to(GPU) * found).sum()))
    with torch.autocast("cuda", torch.bfloat16):
        plainly = torch.stack([by_itself_there(model, sequence.prompt, sequence.completion) for sequence in sequences])
    plain_gradient = joined(gradient_of(model, (weights.to(GPU) * plainly).sum()))
    assert distance(found, expected) <= 2 * distance(plainly, expected) + OF_BFLOAT16
    assert distance(gradient, expected_gradient) <= 2 * distance(plain_gradient, expected_gradient) + OF_BFLOAT16


def by_itself_there(model: PreTrainedModel, prompt: tuple[int, ...], completion: tuple[int, ...]) -> torch.Tensor:
    """A plain forward of one sequence on the GPU."""
    ids = torch.tensor([[*prompt, *completion]], device=GPU)
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    return logits.gather(-1, ids[0, len(prompt) :, None]).sum()


def joined(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    """One vector of all."""
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def prepared(model: PreTrainedModel, groups: list[Group], *, sharded: bool = False) -> tuple[Scorer, Reference]:
    """The model to be trained and a reference, on the GPU; `sharded` over the one rank that there is."""
    scorers = []
    for each in (model, random_model(seed=3)[0] if model.config.vocab_size < 1000 else random_llama(2)):
        each.to(GPU)
        scorers.append(fitting_scorer(each, autocast=torch.bfloat16))
        if sharded:
            shard(each, Ranks(0, 1, sharded=True), announced_as=None)
    if sharded:
        keep_together(scorers[1].model)
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    reference = prepare_reference(
        scorers[1], sequences, table={}, with_distributions_of=[], on_progress=lambda share: None
    )[0]
    return scorers[0], reference


def stepped(scorer: Scorer, reference: Reference, groups: list[Group], *, ranks: Ranks = ALONE) -> torch.Tensor:
    """The gradient of one step."""
    trained = [parameter for parameter in scorer.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, fused=True)
    training_step(scorer, optimizer, groups, reference, dpo(max_grad_norm=1e9, drift_weight=0.0), rate=1e-6,
                  mean_weight=1.0, ranks=ranks)  # fmt: skip
    reshard(scorer.model)
    gradients = {name: each.grad for name, each in scorer.model.named_parameters() if each.grad is not None}
    return joined(whole(gradients))


def test_memory_that_runs_out_is_met_with_smaller_parts_and_the_same_gradient() -> None:
    groups = [group for _ in range(6) for group in WORKLOADS["pairs-100-200"].groups()]
    scorer, reference = prepared(random_llama(1), groups)
    scorer.limits = Limits(tokens=10**6, logits=10**9)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    expected = stepped(scorer, reference, groups)
    peak = torch.cuda.max_memory_allocated() - before
    scorer.model.zero_grad(set_to_none=True)
    scorer.model.load_state_dict(random_llama(1).state_dict())
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 0.6 * peak
    try:
        torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
        found = stepped(scorer, reference, groups)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert scorer.limits.tokens < 10**6, "memory did run out"
    assert distance(found, expected) < 4 * OF_BFLOAT16


@pytest.mark.parametrize("adapter", [False, True])
def test_a_model_sharded_by_nccl_has_the_same_gradient(tmp_path: Path, adapter: bool) -> None:
    groups = [ranking(Verdict((2, 1, 2, 3), (0, 0, 0, 0), 0.5)), *(pair(number) for number in range(6))]

    def fresh() -> PreTrainedModel:
        model = random_model(seed=4)[0]
        if adapter:
            new_adapter(model, rank=4, alpha=8, seed=1)
            train_adapter_alone(model)
        return model

    expected = stepped(*prepared(fresh(), groups), groups)
    dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        scorer, reference = prepared(fresh(), groups, sharded=True)
        found = stepped(scorer, reference, groups, ranks=Ranks(0, 1, sharded=True))
    finally:
        dist.destroy_process_group()
    assert distance(found, expected) < OF_BFLOAT16


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.SFT])
def test_every_method_trains_towards_what_was_preferred(method: Method, make_run: MakeRun) -> None:
    longer = Hyperparameters(epochs=12, learning_rate=2e-3, drift_weight=0.1)
    folder = make_run("run", method=method, hyperparameters=longer)
    assert run(folder) == ExitCode.DONE, report_of(folder).message
    report = report_of(folder)
    if method is Method.REWARD_MODEL:
        assert report.reward_model is not None
        assert report.reward_model.after.accuracy > 0.9


@pytest.mark.parametrize("tuning", [Tuning.LORA, Tuning.LORA_TOP])
@pytest.mark.parametrize("merged", [False, True])
def test_adapters_are_trained_beside_a_base_in_bfloat16(tuning: Tuning, merged: bool, make_run: MakeRun) -> None:
    settings = Hyperparameters(epochs=12, learning_rate=5e-3, tuning=tuning, merged=merged, lora_layers=1)
    folder = make_run("run", hyperparameters=settings)
    assert run(folder) == ExitCode.DONE, report_of(folder).message
    report = report_of(folder)
    assert report.before is not None
    assert report.after is not None
    assert report.after.preferences.accuracy > report.before.preferences.accuracy


@pytest.mark.parametrize("tuning", [Tuning.FULL, Tuning.LORA])
def test_a_killed_run_ends_with_the_numbers_of_one_that_was_not(make_run: MakeRun, tuning: Tuning) -> None:
    longer = Hyperparameters(epochs=20, learning_rate=1e-3, tuning=tuning)
    budget = Budget(threads=1, checkpoint_every_steps=5, evaluate_every_steps=6)
    folders = [make_run(name, hyperparameters=longer, budget=budget) for name in ("unbroken", "killed")]
    assert started(folders[0]).wait() == ExitCode.DONE, (folders[0] / "log.txt").read_text()
    for instant in ('"step":7,', '"step":61,'):
        process = started(folders[1])
        wait_for(folders[1], instant, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(folders[1]).wait() == ExitCode.DONE
    assert report_of(folders[1]).resumed == 2
    assert numbers_of(folders[1]) == numbers_of(folders[0])
    assert "deterministic" not in (folders[0] / "log.txt").read_text()
