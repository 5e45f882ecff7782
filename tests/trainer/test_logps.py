"""Log-probabilities of completions: exact, however they are laid out and whatever lies beside them."""

import random
from itertools import product

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.factories.serving import random_model
from trainer import tree_attention
from trainer.attention import attend_plainly
from trainer.errors import ModelError
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import Limits
from trainer.packing import Tokens, Tree, trees_of

PLAIN = ["llama", "gpt2", "qwen3"]
OTHER = ["mistral", "gemma2", "gpt_oss"]
"""With a sliding window; with soft-capped scores and logits, and a window in every other layer; with sinks."""


def some_trees(count: int, *, seed: int = 0, longest: int = 30) -> list[Tree]:
    """Trees of one to four completions, random tokens and very different lengths."""
    rng = random.Random(seed)

    def tokens() -> tuple[int, ...]:
        return tuple(rng.randrange(5, 200) for _ in range(rng.randrange(1, longest)))

    return [Tree(tokens(), tuple(tokens() for _ in range(rng.randrange(1, 5)))) for _ in range(count)]


def one_by_one(model: PreTrainedModel, sequence: Tokens) -> Tensor:
    """log p(completion | prompt) by a plain Hugging Face forward over the one sequence."""
    ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
    logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    scored = logits.gather(-1, ids[0, 1:, None]).squeeze(-1)
    return scored[len(sequence.prompt) - 1 :].double().sum()


def gradient_of(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter."""
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("architecture", [*PLAIN, *OTHER])
def test_log_probabilities_and_gradients_are_those_of_one_by_one_forwards(architecture: str) -> None:
    model, _ = random_model(architecture=architecture)
    trees = some_trees(5)
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    weights = torch.rand(len(sequences), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([one_by_one(model, sequence) for sequence in sequences])
    expected_gradient = gradient_of(model, (weights * expected).sum())
    fitting = fitting_scorer(model)
    assert (fitting.in_trees, fitting.own_head) == (architecture in PLAIN, architecture == "gemma2")
    for in_trees, own_head in product((True, False), (True, False)):
        if (in_trees and not fitting.in_trees) or (fitting.own_head and not own_head):
            continue
        found = Scorer(model, in_trees=in_trees, own_head=own_head).score(trees).logps
        assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
        gradient = gradient_of(model, (weights * found).sum())
        for name, value in gradient.items():
            assert (value - expected_gradient[name]).norm() <= 1e-5 * expected_gradient[name].norm() + 1e-7, name


def test_plain_operations_attend_as_the_kernel_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = random_model()
    model.double()
    trees = some_trees(4)
    scorer = Scorer(model, in_trees=True, own_head=False)
    gradients = []
    for plainly in (False, True):
        if plainly:
            monkeypatch.setattr(tree_attention, "attend", attend_plainly)
            monkeypatch.setattr(tree_attention, "gradients", tree_attention.plain_gradients)
        gradients.append(gradient_of(model, scorer.score(trees).logps.sum()))
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("in_trees", [True, False])
def test_neighbours_change_nothing(in_trees: bool) -> None:
    model, _ = random_model()
    model.double()
    scorer = Scorer(model, in_trees=in_trees, own_head=False)
    short, long = Tree((5, 6), ((7, 8, 1),)), Tree(tuple(range(5, 60)), (tuple(range(60, 110)), (7, 1)))
    alone, beside = scorer.score([short]).logps, scorer.score([long, short]).logps
    assert beside[2:].tolist() == pytest.approx(alone.tolist(), rel=1e-12)
    gradients = [gradient_of(model, logps.sum()) for logps in (alone, beside[2:])]
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-9, atol=1e-12)


def test_a_prompt_is_read_once_and_the_head_sees_completion_tokens_alone() -> None:
    model, _ = random_model()
    read: list[int] = []
    scored: list[int] = []
    hooks = [
        model.get_input_embeddings().register_forward_hook(lambda _, given, found: read.append(found.shape[1])),
        model.get_output_embeddings().register_forward_hook(lambda _, given, found: scored.append(found.shape[1])),
    ]
    Scorer(model, in_trees=True, own_head=True).score([Tree(tuple(range(5, 100)), ((7, 8, 1), (9, 1)))])
    for hook in hooks:
        hook.remove()
    assert (read, scored) == ([95 + 2 + 1], [5])
    assert not model.get_output_embeddings()._forward_pre_hooks
    assert model.config._attn_implementation == "sdpa", "drawing samples goes on with transformers' own"


def test_sequences_of_one_prompt_share_a_tree_and_each_is_computed_once() -> None:
    first, second, other = Tokens((5,), (6, 1)), Tokens((5,), (7, 1)), Tokens((8,), (6, 1))
    assert trees_of([first, other, second, first]) == [Tree((5,), ((6, 1), (7, 1))), Tree((8,), ((6, 1),))]
    model, _ = random_model()
    logps = fitting_scorer(model).sequence_logps([first, other, second, first])
    assert logps == pytest.approx([one_by_one(model, each).item() for each in (first, other, second, first)], rel=1e-6)
    assert logps[0] == logps[3]


@pytest.mark.parametrize("in_trees", [True, False])
def test_work_that_is_too_large_for_one_forward_is_split(in_trees: bool) -> None:
    trees = some_trees(20)
    sequences = [sequence for tree in trees for sequence in tree.sequences]
    scorer = Scorer(random_model()[0], in_trees=in_trees, own_head=False)
    whole = scorer.sequence_logps(sequences)
    scorer.limits = Limits(tokens=150)
    parts = list(scorer.in_parts(trees))
    assert sorted((tree for part in parts for tree in part), key=str) == sorted(trees, key=str)
    assert len(parts) > 5
    assert all(len(part) == 1 or sum(tree.read_tokens for tree in part) <= 150 for part in parts)
    assert scorer.sequence_logps(sequences) == pytest.approx(whole, rel=1e-6)


def test_a_model_that_computes_no_numbers_is_refused() -> None:
    model, _ = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[:] = torch.nan
    with pytest.raises(ModelError, match="not numbers"):
        fitting_scorer(model)
