"""Text that grows with its tokens: never taken back, never showing a stop string, the same as decoding all at once."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.factories.serving import byte_tokenizer
from trainer.chat import completion_text
from trainer.serving.text import GrowingText, SharedTokenizer, without_half_a_character
from trainer.starter import MODEL_FOLDER

BYTES = byte_tokenizer()
STARTER = AutoTokenizer.from_pretrained(MODEL_FOLDER)
WORDS = st.text(alphabet="ab é€𝄞\n", max_size=40)


def pieces(tokenizer: PreTrainedTokenizerBase, token_ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    """What can be shown after each token, and at the end; up to a stop string."""
    growing = GrowingText(SharedTokenizer(tokenizer).text, stop)
    shown = []
    for token_id in token_ids:
        stopped = growing.add(token_id)
        shown.append(growing.sure)
        if stopped:
            return shown
    growing.finish()
    return [*shown, growing.sure]


@given(text=WORDS)
@pytest.mark.parametrize("tokenizer", [BYTES, STARTER], ids=["bytes", "starter"])
def test_text_grows_to_what_all_tokens_together_say_and_is_never_taken_back(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    shown = pieces(tokenizer, token_ids)
    assert shown[-1] == completion_text(tokenizer, token_ids)
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))
    assert not any("\ufffd" in earlier for earlier in shown)


@settings(max_examples=300)
@given(token_ids=st.lists(st.integers(5, len(STARTER) - 1), max_size=30))
@pytest.mark.parametrize("tokenizer", [BYTES, STARTER], ids=["bytes", "starter"])
def test_any_tokens_at_all_grow_to_what_they_say_together(
    tokenizer: PreTrainedTokenizerBase, token_ids: list[int]
) -> None:
    token_ids = [token_id % len(tokenizer) for token_id in token_ids]
    assert pieces(tokenizer, token_ids)[-1] == without_half_a_character(completion_text(tokenizer, token_ids))


@given(text=st.text(alphabet="abc", max_size=40), stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=6)))
def test_text_ends_before_the_first_stop_string_to_be_complete_and_shows_no_part_of_it(
    text: str, stops: list[str]
) -> None:
    # One token a letter: the stop string that is complete first ends the text, at its beginning.
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    seen = text[: min(ends, default=len(text))]
    expected = min((seen.find(stop) for stop in stops if stop in seen), default=len(seen))
    shown = pieces(BYTES, BYTES(text)["input_ids"], tuple(stops))
    assert shown[-1] == text[:expected]
    assert all(shown[-1].startswith(earlier) for earlier in shown)


def test_a_stop_string_across_tokens_is_held_back_from_its_first_letter() -> None:
    assert pieces(BYTES, BYTES("one END, two")["input_ids"], ("END.",)) == [
        "o", "on", "one", "one ", "one ", "one ", "one ", "one END,", "one END, ", "one END, t", "one END, tw",
        "one END, two", "one END, two",
    ]  # fmt: skip
    assert pieces(BYTES, BYTES("one END. two")["input_ids"], ("END.",))[-5:] == ["one "] * 5


def test_a_stop_string_inside_a_token_ends_the_text_before_it() -> None:
    [token_id] = [number for token, number in STARTER.get_vocab().items() if token == "Ġthe"]
    assert pieces(STARTER, [token_id, token_id], ("he",)) == [" t"]


def test_characters_of_several_bytes_come_whole() -> None:
    assert pieces(BYTES, BYTES("a€b")["input_ids"]) == ["a", "a", "a", "a€", "a€b", "a€b"]


def test_special_tokens_leave_no_trace_in_the_text() -> None:
    hidden = BYTES("a", add_special_tokens=False)["input_ids"] + [2, 3] + BYTES(" b")["input_ids"]
    assert pieces(BYTES, hidden)[-1] == "a b"


@pytest.mark.real
@settings(max_examples=200)
@given(text=st.text(alphabet="ab .,é€\n", max_size=30))
def test_the_story_models_tokenizer_grows_to_the_same_text(real_data: Path, text: str) -> None:
    """A SentencePiece vocabulary: spaces that vanish at the beginning, and single bytes."""
    tokenizer = AutoTokenizer.from_pretrained(real_data / "models" / "tinystories-260k")
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert pieces(tokenizer, token_ids)[-1] == without_half_a_character(completion_text(tokenizer, token_ids))
