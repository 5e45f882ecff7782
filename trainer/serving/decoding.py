"""One request while its completions grow: what the computing thread writes, and whoever asked reads.

Both sides meet in a `Decoding`. The computing thread adds tokens and says that something changed; the other side,
on the event loop, looks at the choices. A choice's text only ever grows, and is whole once `stopped_by` is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from trainer.contract.logs import request_id
from trainer.serving.sampling import choice_seed, uniforms
from trainer.serving.text import GrowingText, without_half_a_character
from trainer.serving.versions import Lease, ModelVersion

StoppedBy = Literal["end_token", "stop_string", "max_tokens"]


@dataclass(frozen=True)
class Sampling:
    """How a request wants its choices drawn."""

    choices: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: tuple[str, ...] = ()


@dataclass(eq=False)
class Choice:
    """One completion as it grows.

    `token_ids` are all tokens drawn, the end token or the one that completed a stop string included; `text`
    is without either. `seconds` runs from the request's first turn to this choice's last token. `numbers` are its
    random numbers, one for each token.
    """

    seed: int
    numbers: np.ndarray
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    stopped_by: StoppedBy | None = None
    seconds: float = 0.0

    def next_number(self) -> float:
        """The random number that the next token is drawn with."""
        return float(self.numbers[len(self.token_ids)])


class Decoding:
    """A request under way; owns the lease on its version until it has ended.

    `prompt_ids` must not be empty, and with `sampling.max_tokens` must fit the version's context. `on_change` is
    called on the computing thread: after every token where the request is `streamed`, and when it has ended.
    """

    def __init__(
        self,
        lease: Lease,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        streamed: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.sampling = sampling
        self.choices = [_new_choice(sampling, index) for index in range(sampling.choices)]
        self.error: Exception | None = None
        self.ended = False
        self.left = False
        """Whether nobody waits for it any more."""
        self.request_id = request_id.get()
        self._lease = lease
        self._streamed = streamed
        self._on_change = on_change
        self._texts = [GrowingText(self.version.tokenizer.text, sampling.stop) for _ in self.choices]
        self._submitted = self._began = time.monotonic()

    @property
    def version(self) -> ModelVersion:
        """The version that writes."""
        return self._lease.version

    @property
    def queued_seconds(self) -> float:
        """From the request's arrival to its first turn."""
        return self._began - self._submitted

    @property
    def seconds(self) -> float:
        """From the first turn to the last token of all choices."""
        return max(choice.seconds for choice in self.choices)

    # --- Called by the computing thread

    def begin(self) -> None:
        """The first turn has come."""
        self._began = time.monotonic()

    def take(self, index: int, token: int) -> bool:
        """Add a token to a choice; True when that ends it."""
        choice, text = self.choices[index], self._texts[index]
        choice.token_ids.append(token)
        if token in self.version.end_ids:
            return self._stop(choice, text, "end_token")
        if self._reads_along and text.add(token):
            return self._stop(choice, text, "stop_string")
        if len(choice.token_ids) == self.sampling.max_tokens:
            return self._stop(choice, text, "max_tokens")
        choice.text = text.sure
        return False

    def changed(self) -> None:
        """Say that tokens have been taken; the request has ended where none can follow."""
        if all(choice.stopped_by for choice in self.choices):
            self.end()
        elif self._streamed:
            self._on_change()

    def end(self, error: Exception | None = None) -> None:
        """No more will come, because of `error` where there is one; the version may leave memory now."""
        if not self.ended:
            self.error = error
            self.ended = True
            self._lease.give_back()
            self._on_change()

    @property
    def _reads_along(self) -> bool:
        """Whether the text is needed while tokens come; otherwise all of it is decoded at once at the end."""
        return self._streamed or bool(self.sampling.stop)

    def _stop(self, choice: Choice, text: GrowingText, stopped_by: StoppedBy) -> bool:
        if self._reads_along:
            text.finish()
            choice.text = text.sure
        else:
            told = choice.token_ids[:-1] if stopped_by == "end_token" else choice.token_ids
            choice.text = without_half_a_character(self.version.tokenizer.text(told))
        choice.seconds = time.monotonic() - self._began
        choice.stopped_by = stopped_by
        return True


def _new_choice(sampling: Sampling, index: int) -> Choice:
    seed = choice_seed(sampling.seed, index)
    return Choice(seed, uniforms(seed, sampling.max_tokens).numpy())
