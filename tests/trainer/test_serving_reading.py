"""How versions read: many requests in one forward where their attention can be shared, one by one where it cannot."""

import random

import pytest
import torch
from transformers import PreTrainedModel

from tests.factories.serving import random_model
from trainer.attention import attend, attend_plainly
from trainer.serving.errors import BrokenModelError
from trainer.serving.loading import served_tokens
from trainer.serving.reading import Reader, SeparateReader, SharedReader, fitting_reader

READERS: dict[str, type[Reader]] = {
    "llama": SharedReader,
    "gpt2": SharedReader,
    "qwen3": SharedReader,
    "mistral": SeparateReader,
    "gemma2": SeparateReader,
    "llama4": SeparateReader,
}
LONG = 700
"""A prompt so long that it lies apart from the rows that continue it."""


def fitted(architecture: str, *, context: int = 1024) -> tuple[PreTrainedModel, Reader]:
    """A model, and the reader that fits it."""
    model, _ = random_model(architecture=architecture, context=context)
    with torch.inference_mode():
        return model, fitting_reader(model, context_tokens=context)(model)


@pytest.mark.parametrize("architecture", READERS)
def test_requests_are_computed_together_where_the_attention_allows_it(architecture: str) -> None:
    model, reader = fitted(architecture)
    assert type(reader) is READERS[architecture]
    assert (model.config._attn_implementation == "palate-shared") is (type(reader) is SharedReader)


@pytest.mark.parametrize("architecture", READERS)
def test_rows_that_come_and_go_get_the_logits_of_a_plain_forward(architecture: str) -> None:
    """Requests of all lengths join and rows end in any order; every row is compared at every step."""
    _, reader = fitted(architecture)
    plain, _ = random_model(architecture=architecture, context=1024)
    rng = random.Random(4)
    arrivals = {0: (5, 2), 1: (LONG, 3), 4: (30, 1), 7: (LONG, 1), 9: (1, 4)}
    rows: list[list[int]] = []
    with torch.inference_mode():
        for step in range(16):
            if step in arrivals:
                length, count = arrivals[step]
                prompt = [rng.randrange(5, 200) for _ in range(length)]
                memory = reader.open(length)
                for begin in range(0, length, 256):
                    logits = reader.read(memory, prompt[begin : begin + 256])
                assert close(logits[0], plain, prompt)
                reader.add(memory, count)
                rows += [list(prompt) for _ in range(count)]
            for row in rows:
                row.append(rng.randrange(5, 200))
            logits = reader.step([row[-1] for row in rows])
            assert all(close(found, plain, row) for found, row in zip(logits, rows, strict=True))
            if step % 3 == 2:
                gone = rng.randrange(len(rows))
                reader.remove(gone)
                rows[gone] = rows[-1]
                rows.pop()


def close(found: torch.Tensor, model: PreTrainedModel, token_ids: list[int]) -> bool:
    """Whether logits are those of a forward of all tokens at once, without any memory."""
    expected = model(torch.tensor([token_ids]), use_cache=False).logits[0, -1]
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("architecture", "most"), [("llama", 128), ("dynamic", 128), ("phi3", 24)])
def test_a_model_is_asked_for_no_more_than_it_reads_alike(architecture: str, most: int) -> None:
    """Phi-3 reads all of a text of more than 24 tokens by other frequencies; up to there a plain forward agrees."""
    model, reader = fitted(architecture, context=128)
    plain, _ = random_model(architecture=architecture, context=128)
    assert served_tokens(model) == most
    token_ids = [token % 200 + 5 for token in range(most)]
    with torch.inference_mode():
        memory = reader.open(10)
        reader.read(memory, token_ids[:4])
        reader.read(memory, token_ids[4:10])
        reader.add(memory, 1)
        for length in range(11, most + 1):
            logits = reader.step(token_ids[length - 1 : length])
        assert close(logits[0], plain, token_ids)


def test_a_reader_that_is_empty_again_begins_anew() -> None:
    _, reader = fitted("llama")
    with torch.inference_mode():
        steps = []
        for _ in range(2):
            memory = reader.open(3)
            reader.read(memory, [5, 6, 7])
            reader.add(memory, 2)
            steps.append(reader.step([8, 9]))
            reader.remove(0)
            reader.remove(0)
    assert torch.equal(*steps)


def test_the_processors_kernel_and_plain_operations_find_the_same() -> None:
    """Other devices use plain operations: the same attention and the same log-sum-exp of the scores."""
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (torch.randn(3, 2, length, 8, generator=generator) for length in (4, 20, 20))
    mask = torch.zeros(3, 1, 1, 20).masked_fill_(torch.arange(20) >= 15, -torch.inf)
    found, mass = attend(query, keys, values, mask=mask, scaling=0.3)
    plainly, mass_plainly = attend_plainly(query, keys, values, mask=mask, scaling=0.3)
    torch.testing.assert_close(found, plainly)
    torch.testing.assert_close(mass, mass_plainly)
    scores = query @ keys.transpose(-1, -2) * 0.3 + mask
    torch.testing.assert_close(plainly, scores.softmax(-1) @ values)
    torch.testing.assert_close(mass_plainly, scores.logsumexp(-1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_whose_weights_are_damaged_is_found_out(value: float) -> None:
    model, _ = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = value
    with pytest.raises(BrokenModelError, match="not numbers"), torch.inference_mode():
        fitting_reader(model, context_tokens=128)


def test_a_model_that_takes_no_positions_is_read_in_its_own_way() -> None:
    """Whatever a model does otherwise than expected shows in its logits, and they decide."""
    model, _ = random_model()

    def without_positions(_module: torch.nn.Module, _args: object, given: dict[str, object]) -> tuple[object, object]:
        return (), {**given, "position_ids": None}

    model.register_forward_pre_hook(without_positions, with_kwargs=True)
    with torch.inference_mode():
        assert fitting_reader(model, context_tokens=128) is SeparateReader
