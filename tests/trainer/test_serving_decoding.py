"""Decoding a request, without HTTP: against transformers' generate and against forwards without a cache."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tests.factories.serving import lettered_model, random_model
from trainer.serving.decoding import Choice, Decoding, Sampling
from trainer.serving.errors import BrokenModelError
from trainer.serving.sampling import choice_seed, draw_tokens, uniforms

PROMPT = [3, 76, 73, 80, 80, 83, 1, 4]
ARCHITECTURES = ["llama", "gpt2", "qwen3"]


def decode(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    *,
    choices: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_tokens: int = 30,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    end_ids: frozenset[int] = frozenset({1}),
) -> list[Choice]:
    """All choices of one request, decoded to their end."""
    sampling = Sampling(choices, temperature, top_p, max_tokens, seed, stop)
    with torch.inference_mode():
        decoding = Decoding(*pair, prompt_ids=PROMPT, end_ids=end_ids, sampling=sampling)
        while not decoding.advance(7):
            pass
    return decoding.choices


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_completions_are_those_of_transformers_generate(architecture: str) -> None:
    model, tokenizer = random_model(architecture=architecture)
    [choice] = decode((model, tokenizer), temperature=0)
    expected = model.generate(
        torch.tensor([PROMPT]), do_sample=False, max_new_tokens=30, eos_token_id=1, pad_token_id=0
    )
    assert choice.token_ids == expected[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_sampled_token_is_what_a_forward_without_cache_and_batch_would_have_drawn(architecture: str) -> None:
    model, tokenizer = random_model(architecture=architecture)
    # Many end tokens, so that choices leave the batch at different times.
    ends = frozenset({1, *range(10, 22)})
    choices = decode((model, tokenizer), choices=6, top_p=0.9, temperature=0.8, seed=11, end_ids=ends)
    assert len({len(choice.token_ids) for choice in choices}) > 2
    for index, choice in enumerate(choices):
        numbers = uniforms(choice_seed(11, index), 30)
        for position, token in enumerate(choice.token_ids):
            read = torch.tensor([PROMPT + choice.token_ids[:position]])
            with torch.inference_mode():
                logits = model(read).logits[:, -1]
            drawn = draw_tokens(logits, numbers[position : position + 1], temperature=0.8, top_p=0.9)
            assert drawn.item() == token


def test_a_choice_can_be_had_again_alone_by_its_own_seed() -> None:
    pair = random_model()
    for choice in decode(pair, choices=4, seed=5):
        assert decode(pair, seed=choice.seed)[0].token_ids == choice.token_ids


def test_a_choice_ends_at_an_end_token_which_its_text_leaves_out() -> None:
    choices = decode(lettered_model("ab"), choices=8, max_tokens=60, end_ids=frozenset({byte_id("b")}))
    assert {choice.stopped_by for choice in choices} == {"end_token"}
    for choice in choices:
        assert choice.token_ids[-1] == byte_id("b")
        assert choice.text == "a" * (len(choice.token_ids) - 1)


def test_text_ends_before_the_earliest_stop_string_whatever_tokens_it_spans() -> None:
    pair = lettered_model("abcd")
    free = decode(pair, choices=6, max_tokens=60, seed=2)
    stopped = decode(pair, choices=6, max_tokens=60, seed=2, stop=("abc", "dd"))
    for before, after in zip(free, stopped, strict=True):
        ends = [before.text.find(stop) for stop in ("abc", "dd") if stop in before.text]
        assert after.text == before.text[: min(ends)] if ends else before.text
        assert after.stopped_by == ("stop_string" if ends else "max_tokens")
        assert after.token_ids == before.token_ids[: len(after.token_ids)]
    assert sum(choice.stopped_by == "stop_string" for choice in stopped) >= 4


def test_a_character_cut_off_by_the_limit_is_left_out() -> None:
    choices = decode(lettered_model("é"), choices=16, max_tokens=1)
    assert {choice.text for choice in choices} == {""}
    longer = decode(lettered_model("é"), choices=16, max_tokens=6)
    assert not any(choice.text.endswith("\ufffd") for choice in longer)
    assert any("é" in choice.text for choice in longer)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_model_whose_weights_are_damaged_is_reported_and_not_drawn_from(value: float) -> None:
    model, tokenizer = random_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = value
    with pytest.raises(BrokenModelError, match="not numbers"):
        decode((model, tokenizer))


def byte_id(letter: str) -> int:
    """The token of a letter in the factories' tokenizer."""
    _, tokenizer = random_model()
    [token] = tokenizer(letter, add_special_tokens=False)["input_ids"]
    return int(token)
