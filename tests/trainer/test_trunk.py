"""The frozen layers below the trained ones, kept: the same numbers, whatever is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.factories.adapters import moved
from tests.factories.serving import random_model
from tests.trainer.test_loop import dpo, pair, ranking, reference_for
from trainer import trunk
from trainer.adapters import adapter_parameters, decoder_layers, new_adapter, train_adapter_alone
from trainer.groups import Group, Verdict
from trainer.logps import Scorer, fitting_scorer
from trainer.packing import trees_of
from trainer.step import training_step
from trainer.trunk import FrozenLayers, Kept, kept_trunk

GROUPS = [*(pair(number) for number in range(5)), ranking(Verdict((2, 1, 3, 3), (0, 0, 0, 0), 1.0))]
TREES = trees_of(sequence for group in GROUPS for sequence in group.tree.sequences)


def top_scorer(architecture: str = "llama") -> Scorer:
    """A model whose last layer has an adapter in training; the first one is frozen."""
    model, _ = random_model(architecture=architecture, seed=4)
    top = decoder_layers(model)[-1:]
    new_adapter(model, rank=4, alpha=8, seed=1, layers=top)
    moved(model)
    train_adapter_alone(model, layers=top)
    return fitting_scorer(model)


@contextmanager
def keeping(scorer: Scorer, folder: Path, *, memory_bytes: int, file_bytes: int = 0) -> Iterator[Kept]:
    """Frozen layers kept within bounds of the test's own."""
    kept = Kept(memory_bytes=memory_bytes, folder=folder, file_bytes=file_bytes)
    scorer.trunk = FrozenLayers(scorer, decoder_layers(scorer.model)[-1:], kept)
    yield kept
    scorer.trunk = None


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "mistral", "gemma2"])
def test_log_probabilities_are_the_same_to_the_last_bit_whatever_is_kept(architecture: str, tmp_path: Path) -> None:
    scorer = top_scorer(architecture)
    assert scorer.in_trees is (architecture not in {"mistral", "gemma2"})
    plain = scorer.score(TREES).logps
    found = []
    for memory_bytes, file_bytes in ((0, 0), (10**9, 0), (0, 10**9), (5000, 9000)):
        with keeping(scorer, tmp_path, memory_bytes=memory_bytes, file_bytes=file_bytes):
            found += [scorer.score(TREES).logps for _ in range(2)]
    assert all(torch.equal(each, found[0]) for each in found)
    torch.testing.assert_close(found[0], plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(scorer.score(TREES).logps, plain), "afterwards all layers are as they were"


def test_a_tree_is_computed_once_and_found_in_memory_or_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = top_scorer()
    computed = []
    plainly = Scorer.forward_plainly
    monkeypatch.setattr(Scorer, "forward_plainly", lambda self, trees: (computed.extend(trees), plainly(self, trees)))
    bytes_each = {tree: 4 * 32 * tree.read_tokens for tree in TREES}
    in_memory = bytes_each[TREES[0]] + bytes_each[TREES[1]]
    with keeping(scorer, tmp_path, memory_bytes=in_memory, file_bytes=bytes_each[TREES[2]]):
        for _ in range(3):
            scorer.score(TREES)
    assert len(list(tmp_path.iterdir())) == 1
    assert [computed.count(tree) for tree in TREES] == [1, 1, 1] + [3] * (len(TREES) - 3)


def gradients(scorer: Scorer, groups: list[Group]) -> torch.Tensor:
    """Of the adapter, after a step."""
    reference = reference_for(groups)
    optimizer = torch.optim.SGD([each for each in scorer.model.parameters() if each.requires_grad])
    training_step(scorer, optimizer, groups, reference, dpo(max_grad_norm=1e9), rate=0.0, mean_weight=1.0)
    return torch.cat([each.grad.flatten() for each in adapter_parameters(scorer.model) if each.grad is not None])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_step_over_kept_layers_has_the_gradient_of_a_plain_one(architecture: str, tmp_path: Path) -> None:
    plain = gradients(top_scorer(architecture), GROUPS)
    scorer = top_scorer(architecture)
    with kept_trunk(scorer, decoder_layers(scorer.model)[-1:], tmp_path / "trunk"):
        assert scorer.trunk is not None
        kept = gradients(scorer, GROUPS)
    assert scorer.trunk is None
    assert not (tmp_path / "trunk").exists()
    assert len(plain) == len(kept)
    torch.testing.assert_close(kept, plain, rtol=1e-5, atol=1e-6)


def test_a_model_whose_layers_hand_on_more_than_they_show_is_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = top_scorer()
    first = decoder_layers(scorer.model)[0]
    hook = decoder_layers(scorer.model)[1].register_forward_hook(
        lambda _, inputs, found: found + (0 if "forward" in first.__dict__ else torch.arange(32))
    )
    with kept_trunk(scorer, decoder_layers(scorer.model)[-1:], tmp_path / "trunk"):
        assert scorer.trunk is None
    hook.remove()
    with kept_trunk(scorer, decoder_layers(scorer.model)[-1:], tmp_path / "trunk"):
        assert scorer.trunk is not None
    with kept_trunk(scorer, None, tmp_path / "trunk"):
        assert scorer.trunk is None
    monkeypatch.setattr(trunk, "bytes_left", lambda device: 0)
    with kept_trunk(scorer, decoder_layers(scorer.model), tmp_path / "trunk"):
        assert scorer.trunk is None
