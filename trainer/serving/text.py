"""From tokens to text while they come, in pieces that never have to be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_text, prompt_token_ids
from trainer.contract.base import Message

_HALF_A_CHARACTER = "\ufffd"
"""What bytes decode to that are no whole character, or not yet."""


class SharedTokenizer:
    """A version's tokenizer for all threads: those that read prompts and the one that computes. One at a time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._one_at_a_time = threading.Lock()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a prompt; raises what the chat template raises."""
        with self._one_at_a_time:
            return prompt_token_ids(self._tokenizer, messages)

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens, special ones left out."""
        with self._one_at_a_time:
            return completion_text(self._tokenizer, token_ids)


def without_half_a_character(text: str) -> str:
    """The text without a last character whose bytes were not all drawn."""
    return text.rstrip(_HALF_A_CHARACTER)


class GrowingText:
    """The text of a completion as its tokens come; `sure` is what can be shown already.

    Held back are a character whose bytes have not all come, and an end that may become a stop string.
    Only the last few tokens are decoded each time: those since the character before the last that was whole.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str], stop: Sequence[str]) -> None:
        self.sure = ""
        self._text_of = text_of
        self._stop = stop
        self._held = ""
        self._window: list[int] = []
        self._new_from = 0
        """Where in the window the tokens begin whose text came last."""
        self._taken = 0
        """How much of the window's text has been taken already."""

    def add(self, token_id: int) -> bool:
        """Take a token; True where it completes a stop string, before which the text then ends."""
        self._window.append(token_id)
        text = self._text_of(self._window)
        whole = without_half_a_character(text)
        piece = whole[self._taken :]
        self._taken = max(self._taken, len(whole))
        if piece and whole == text:
            self._move_window()
        return self._take(self._held + piece)

    def finish(self) -> None:
        """No token will follow: what was held back as part of a stop string is text after all."""
        self.sure, self._held = self.sure + self._held, ""

    def _move_window(self) -> None:
        # The tokens of the last piece stay, as some tokenizers write a token otherwise where nothing stands before it.
        self._window = self._window[self._new_from :]
        self._new_from = len(self._window)
        self._taken = len(self._text_of(self._window))

    def _take(self, text: str) -> bool:
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        sure = min(found) if found else len(text) - _begun(self._stop, text)
        self.sure += text[:sure]
        self._held = "" if found else text[sure:]
        return bool(found)


def _begun(stops: Sequence[str], text: str) -> int:
    """How many characters at the end of `text` are the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
