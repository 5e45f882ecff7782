"""Log-probabilities of completions: exact, whatever lies beside them in a batch."""

import random

import pytest
import torch
from transformers import PreTrainedModel

from tests.factories.serving import random_model
from trainer import logps as logps_module
from trainer.groups import Tokens
from trainer.logps import batches_by_length, completion_logps, padded_batch, sequence_logps, token_logps


def some_sequences(count: int, *, seed: int = 0) -> list[Tokens]:
    """Sequences of random tokens and very different lengths."""
    rng = random.Random(seed)
    ids = [tuple(rng.randrange(5, 200) for _ in range(rng.randrange(1, 50))) for _ in range(2 * count)]
    return [Tokens(prompt, completion) for prompt, completion in zip(ids[::2], ids[1::2], strict=True)]


@torch.no_grad()
def one_by_one(model: PreTrainedModel, sequence: Tokens) -> float:
    """log p(completion | prompt) by a plain Hugging Face forward over the one sequence."""
    ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
    logits = model(input_ids=ids).logits[0, :-1].double()
    scored = logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)
    return float(scored[len(sequence.prompt) - 1 :].sum())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3"])
def test_log_probabilities_are_those_of_one_by_one_forwards(architecture: str) -> None:
    model, _ = random_model(architecture=architecture)
    sequences = some_sequences(12)
    expected = [one_by_one(model, sequence) for sequence in sequences]
    assert sequence_logps(model, sequences) == pytest.approx(expected, rel=1e-6)


def test_padding_and_neighbours_change_nothing() -> None:
    model, _ = random_model()
    short, long = Tokens((5, 6), (7, 8, 1)), Tokens(tuple(range(5, 60)), tuple(range(60, 110)))
    alone = sequence_logps(model, [short])
    beside = sequence_logps(model, [long, short])
    assert beside[1] == pytest.approx(alone[0], rel=1e-6)


def test_padding_changes_no_gradient() -> None:
    model, _ = random_model()
    model.double()
    short, long = Tokens((5, 6), (7, 8, 1)), Tokens(tuple(range(5, 60)), tuple(range(60, 110)))
    gradients = []
    for neighbours in ([short], [short, long]):
        model.zero_grad()
        batch = padded_batch(neighbours)
        token_logps(completion_logps(model, batch), batch)[:3].sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


def test_the_head_sees_completion_positions_alone() -> None:
    model, _ = random_model()
    batch = padded_batch([Tokens(tuple(range(5, 100)), (7, 8, 1)), Tokens((5,), (9, 1))])
    assert completion_logps(model, batch).shape[0] == 5
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_work_that_is_too_large_for_one_forward_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = some_sequences(20)
    model, _ = random_model()
    whole = sequence_logps(model, sequences)
    monkeypatch.setattr(logps_module, "TOKENS_PER_FORWARD", 150)
    batches = list(batches_by_length(sequences, vocabulary=261))
    assert sorted(index for batch in batches for index in batch) == list(range(20))
    assert len(batches) > 5
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(sequences[index]) for index in batch) <= 150
    assert sequence_logps(model, sequences) == pytest.approx(whole, rel=1e-6)
