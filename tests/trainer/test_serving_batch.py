"""Requests decoded together, without HTTP: against transformers' generate and against forwards of single prompts."""

import pytest
import torch

from tests.factories.serving import decoding_on, lettered_model, random_model, served
from trainer.serving.batch import Batch
from trainer.serving.decoding import Choice, Decoding
from trainer.serving.errors import BrokenModelError
from trainer.serving.sampling import choice_seed, draw_tokens, uniforms
from trainer.serving.versions import ModelVersion

PROMPT = [3, 76, 73, 80, 80, 83, 1, 4]
LONG = PROMPT * 40
"""Read in two pieces, and apart from the rows that continue it where there are two or more."""
ARCHITECTURES = ["llama", "gpt2", "qwen3", "mistral", "gemma2"]


def decode_together(version: ModelVersion, *decodings: Decoding, every: int = 0) -> None:
    """Decode requests to their end in one batch, each joining so many steps after the one before."""
    batch = Batch(version)
    waiting = list(decodings)
    step = 0
    with torch.inference_mode():
        while waiting or len(batch):
            while waiting and (not every or step % every == 0 or not len(batch)):
                batch.admit(waiting.pop(0))
                if every:
                    break
            batch.advance()
            step += 1


def decode(version: ModelVersion, *, prompt: list[int] = PROMPT, **sampling: object) -> list[Choice]:
    """All choices of one request, decoded alone."""
    decoding = decoding_on(version, prompt, **sampling)
    decode_together(version, decoding)
    if decoding.error:
        raise decoding.error
    return decoding.choices


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_completions_are_those_of_transformers_generate(architecture: str) -> None:
    [choice] = decode(served(random_model(architecture=architecture)), temperature=0)
    model, _ = random_model(architecture=architecture)
    expected = model.generate(
        torch.tensor([PROMPT]), do_sample=False, max_new_tokens=30, eos_token_id=1, pad_token_id=0
    )
    assert choice.token_ids == expected[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_token_of_a_mixed_batch_is_what_a_forward_of_its_own_would_have_drawn(architecture: str) -> None:
    """Prompts, settings, seeds, lengths and stop strings of all kinds, each joining while others are under way."""
    # Many end tokens, so that choices leave the batch at different times.
    version = served(random_model(architecture=architecture, context=512), end_ids=frozenset({1, *range(10, 22)}))
    plain, _ = random_model(architecture=architecture, context=512)
    decodings = [
        decoding_on(version, PROMPT, choices=6, top_p=0.9, temperature=0.8, seed=11),
        decoding_on(version, LONG, choices=3, seed=12, max_tokens=12),
        decoding_on(version, PROMPT[:3], temperature=0, max_tokens=50, streamed=True),
        decoding_on(version, LONG, choices=1, top_p=0.5, seed=13, stop=("e",)),
        decoding_on(version, PROMPT[2:], choices=4, top_p=0.9, temperature=0.8, seed=14, max_tokens=1),
    ]
    decode_together(version, *decodings, every=3)
    assert len({len(choice.token_ids) for decoding in decodings for choice in decoding.choices}) > 3
    for decoding in decodings:
        assert decoding.ended
        assert decoding.error is None
        for index, choice in enumerate(decoding.choices):
            assert choice.stopped_by
            assert choice.token_ids == drawn_alone(plain, decoding, index)


def drawn_alone(model: torch.nn.Module, decoding: Decoding, index: int) -> list[int]:
    """A choice's tokens, each drawn from a forward of prompt and choice without memory or company."""
    sampling, choice = decoding.sampling, decoding.choices[index]
    numbers = uniforms(choice_seed(sampling.seed, index), sampling.max_tokens)
    drawn = []
    for position in range(len(choice.token_ids)):
        read = torch.tensor([decoding.prompt_ids + choice.token_ids[:position]])
        with torch.inference_mode():
            logits = model(read, use_cache=False).logits[:, -1]
        number = numbers[position : position + 1]
        drawn.append(int(draw_tokens(logits, number, temperature=sampling.temperature, top_p=sampling.top_p)))
    return drawn


def test_a_choice_can_be_had_again_alone_by_its_own_seed() -> None:
    version = served(random_model())
    for choice in decode(version, choices=4, seed=5):
        assert decode(version, seed=choice.seed)[0].token_ids == choice.token_ids


def test_a_prompt_is_read_once_for_all_its_choices() -> None:
    version = served(random_model(context=512))
    read: list[tuple[int, ...]] = []
    version.model.register_forward_pre_hook(
        lambda _module, _args, given: read.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    decode(version, prompt=LONG, choices=8, max_tokens=3)
    assert read == [(1, 256), (1, 64), (8, 1), (8, 1)]


def test_those_under_way_get_their_tokens_while_a_long_prompt_is_read() -> None:
    version = served(lettered_model("ab", context=4096))
    short, long = decoding_on(version, PROMPT), decoding_on(version, LONG * 4)
    batch = Batch(version)
    with torch.inference_mode():
        batch.admit(short)
        batch.advance()
        batch.admit(long)
        lengths = []
        while not long.choices[0].token_ids:
            batch.advance()
            lengths.append(len(short.choices[0].token_ids))
    assert lengths == [3, 4, 5, 6, 7]


def test_a_choice_ends_at_an_end_token_which_its_text_leaves_out() -> None:
    choices = decode(served(lettered_model("ab"), end_ids=frozenset({byte_id("b")})), choices=8, max_tokens=60)
    assert {choice.stopped_by for choice in choices} == {"end_token"}
    for choice in choices:
        assert choice.token_ids[-1] == byte_id("b")
        assert choice.text == "a" * (len(choice.token_ids) - 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_text_ends_before_the_earliest_stop_string_whatever_tokens_it_spans(streamed: bool) -> None:
    version = served(lettered_model("abcd"))
    free = decode(version, choices=6, max_tokens=60, seed=2)
    stopped = decode(version, choices=6, max_tokens=60, seed=2, stop=("abc", "dd"), streamed=streamed)
    for before, after in zip(free, stopped, strict=True):
        ends = [before.text.find(stop) for stop in ("abc", "dd") if stop in before.text]
        assert after.text == before.text[: min(ends)] if ends else before.text
        assert after.stopped_by == ("stop_string" if ends else "max_tokens")
        assert after.token_ids == before.token_ids[: len(after.token_ids)]
    assert sum(choice.stopped_by == "stop_string" for choice in stopped) >= 4


@pytest.mark.parametrize("streamed", [False, True])
def test_a_character_cut_off_by_the_limit_is_left_out(streamed: bool) -> None:
    version = served(lettered_model("é"))
    choices = decode(version, choices=16, max_tokens=1, streamed=streamed)
    assert {choice.text for choice in choices} == {""}
    longer = decode(version, choices=16, max_tokens=6, streamed=streamed)
    assert not any(choice.text.endswith("\ufffd") for choice in longer)
    assert any("é" in choice.text for choice in longer)


def test_a_request_that_nobody_waits_for_leaves_before_the_next_token() -> None:
    version = served(lettered_model("ab"))
    leaving, staying = decoding_on(version, PROMPT, choices=3), decoding_on(version, PROMPT, seed=1)
    batch = Batch(version)
    with torch.inference_mode():
        batch.admit(leaving)
        batch.admit(staying)
        for _ in range(3):
            batch.advance()
        leaving.left = True
        batch.advance()
    assert leaving.ended
    assert [len(choice.token_ids) for choice in leaving.choices] == [4, 4, 4]
    assert len(staying.choices[0].token_ids) == 5
    assert len(batch) == 1


def test_values_that_are_no_numbers_fail_the_request_that_they_came_up_in_and_no_other() -> None:
    version = served(random_model())
    with torch.no_grad():
        version.model.get_input_embeddings().weight[200] = torch.nan
    broken, sound = decoding_on(version, [*PROMPT, 200], choices=2), decoding_on(version, PROMPT, temperature=0)
    decode_together(version, broken, sound)
    assert isinstance(broken.error, BrokenModelError)
    assert sound.error is None
    assert sound.choices[0].stopped_by


def byte_id(letter: str) -> int:
    """The token of a letter in the factories' tokenizer."""
    _, tokenizer = random_model()
    [token] = tokenizer(letter, add_special_tokens=False)["input_ids"]
    return int(token)
