"""Models that read long sequences otherwise: in chunks, or by other frequencies. The same numbers as one by one."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.factories.serving import random_model, save
from tests.trainer.test_logps import gradient_of, one_by_one, some_trees
from tests.trainer.test_trunk import keeping, top_scorer
from trainer import logps
from trainer.errors import ModelError
from trainer.logps import fitting_scorer
from trainer.memory import Limits
from trainer.packing import Tokens, Tree
from trainer.reward.model import HEAD, load_reward_model
from trainer.reward.scoring import fitting_reward_scorer

SWITCHES = {"llama4": 12, "phi3": 24, "dynamic": 128}
"""After how many tokens the tiny model of an architecture reads otherwise."""


def crossing(after: int) -> list[Tree]:
    """Trees on both sides and across, one sequence ending right there and one a token later."""
    tokens = torch.randint(5, 200, (4 * after,), generator=torch.Generator().manual_seed(after)).tolist()

    def some(begin: int, count: int) -> tuple[int, ...]:
        return tuple(tokens[begin : begin + count])

    half = after // 2
    return [
        Tree(some(0, 3), (some(3, 4), some(9, 2))),
        Tree(some(1, half), (some(20, after - half), some(15, after - half + 1), some(30, 3))),
        Tree(some(2, after + 5), (some(7, after), some(8, 6))),
        Tree(some(4, 5), (some(11, 1), some(12, after))),
        *some_trees(2, longest=after // 3),
    ]


def in_a_new_model(model: PreTrainedModel, sequence: Tokens) -> Tensor:
    """log p(completion | prompt) by a plain forward: of a copy, as dynamic frequencies depend on what was read before,
    whose gradient goes to the model all the same."""
    copied = copy.deepcopy(model)
    for one, other in zip(copied.modules(), model.modules(), strict=True):
        one._parameters = other._parameters
    return one_by_one(copied, sequence)


@torch.no_grad()
def distributions_one_by_one(model: PreTrainedModel, sequences: list[Tokens]) -> Tensor:
    """Log-probabilities of the vocabulary at each completion token, by plain forwards."""
    found = []
    for each in sequences:
        logits = model(input_ids=torch.tensor([[*each.prompt, *each.completion]])).logits[0]
        found.append(logits[len(each.prompt) - 1 : -1].log_softmax(-1))
    return torch.cat(found)


def sequences_of(trees: list[Tree]) -> list[Tokens]:
    """Every completion with its prompt."""
    return [sequence for tree in trees for sequence in tree.sequences]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("architecture", SWITCHES)
def test_numbers_are_those_of_one_by_one_forwards(architecture: str, recompute: bool) -> None:
    model, _ = random_model(architecture=architecture)
    trees = crossing(SWITCHES[architecture])
    expected = torch.stack([in_a_new_model(model, sequence) for sequence in sequences_of(trees)])
    weights = torch.linspace(-1, 1, len(expected), dtype=torch.float64)
    gradient = gradient_of(model, (weights * expected).sum())
    scorer = fitting_scorer(model)
    assert scorer.in_trees is (architecture != "llama4")
    scorer.limits = Limits(recompute=recompute)
    found = scorer.score(trees).logps
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    for name, value in gradient_of(model, (weights * found).sum()).items():
        assert (value - gradient[name]).norm() <= 1e-5 * gradient[name].norm() + 1e-7, name
    for in_trees in (scorer.in_trees, False):
        scorer.in_trees = in_trees
        for limits in (Limits(), Limits(tokens=60)):
            scorer.limits = limits
            found_by_parts = scorer.sequence_logps(sequences_of(trees))
            assert found_by_parts == pytest.approx(expected.tolist(), rel=1e-6)


def test_the_drift_is_that_of_one_by_one_distributions() -> None:
    scorer, reference = (fitting_scorer(random_model(architecture="phi3", seed=seed)[0]) for seed in (1, 2))
    trees = crossing(SWITCHES["phi3"])
    theirs, own = (distributions_one_by_one(each.model, sequences_of(trees)) for each in (reference, scorer))
    torch.testing.assert_close(reference.distributions(trees)[:], theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(reference.distributions_from(reference.hidden(trees))[:], theirs, rtol=1e-5, atol=1e-5)
    drift = scorer.score(trees, reference.distributions(trees)).drift
    torch.testing.assert_close(drift, (theirs.exp() * (theirs - own)).sum(-1), rtol=1e-5, atol=1e-5)


def test_short_sequences_are_still_read_together() -> None:
    model, _ = random_model(architecture="phi3")
    read: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, found: read.append(tuple(given[0].shape)))
    scorer = fitting_scorer(model)
    read.clear()
    short = [Tree((5, 6, 7), ((8, 9, 1), (9, 1)))] * 3
    scorer.score(short)
    assert read == [(1, 3 * 6)]
    read.clear()
    scorer.score([*short, Tree(tuple(range(5, 25)), ((7,) * 5, (8, 1))), *short])
    assert read == [(1, 18), (1, 25), (1, 21 + 18)]
    assert scorer.read_tokens([Tree(tuple(range(5, 25)), ((7,) * 5, (8, 1)))]) == 24 + 21


@pytest.mark.parametrize("architecture", ["phi3", "dynamic"])
def test_kept_layers_are_those_of_the_length_too(architecture: str, tmp_path: Path) -> None:
    scorer = top_scorer(architecture)
    trees = crossing(SWITCHES[architecture])
    plain = scorer.score(trees).logps
    with keeping(scorer, tmp_path, memory_bytes=10**9):
        for _ in range(2):
            torch.testing.assert_close(scorer.score(trees).logps, plain, rtol=1e-5, atol=1e-5)


def test_rewards_are_those_of_transformers_on_both_sides(tmp_path: Path) -> None:
    model, _ = load_reward_model(save(tmp_path / "m", random_model(architecture="phi3")))
    torch.nn.init.normal_(model.get_submodule(HEAD).weight, generator=torch.Generator().manual_seed(5))
    trees = crossing(SWITCHES["phi3"])
    scorer = fitting_reward_scorer(model)
    rows = [torch.tensor([[*each.prompt, *each.completion]]) for each in sequences_of(trees)]
    with torch.no_grad():
        expected = torch.cat([model(input_ids=row).logits[:, 0] for row in rows])
        found: list[Any] = []
        for in_trees in (True, False):
            scorer.in_trees = in_trees
            found += [scorer.score(trees).logps, torch.tensor(scorer.sequence_logps(sequences_of(trees)))]
    for rewards in found:
        torch.testing.assert_close(rewards.float(), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_ranks_that_share_a_model_are_not_to_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = fitting_scorer(random_model(architecture="phi3")[0])
    monkeypatch.setattr(logps, "is_sharded", lambda model: True)
    scorer.score([Tree((5, 6), ((7, 1), (8, 1)))])
    with pytest.raises(ModelError, match="more than 24 tokens are read one by one by Phi3ForCausalLM"):
        scorer.score(crossing(24))
