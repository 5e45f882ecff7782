"""All requests of one version that are under way, advanced together, a token at a time.

A request joins between two steps: its prompt is read once, in pieces, so that those who wait for their next token
do not wait long; then each of its choices is a row of the batch, and leaves it by itself when it ends.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.serving.decoding import Choice, Decoding
from trainer.serving.errors import BrokenModelError
from trainer.serving.reading import numeric_rows
from trainer.serving.sampling import draw_tokens
from trainer.serving.versions import ModelVersion

log = logging.getLogger(__name__)

PROMPT_TOKENS_PER_STEP = 256
"""How much is read of prompts that join before those under way get their next token. A prompt's pieces have this
length whoever else is there, as the last bits of its logits depend on them."""


@dataclass
class _Joining:
    """A request whose prompt is being read: what the reader remembers of it, and how many tokens that are."""

    decoding: Decoding
    memory: Any
    read: int = 0


@dataclass(frozen=True)
class _Row:
    """One completion in the batch."""

    decoding: Decoding
    index: int

    @property
    def choice(self) -> Choice:
        return self.decoding.choices[self.index]


class Batch:
    """The requests of one version. Used by the computing thread only."""

    def __init__(self, version: ModelVersion) -> None:
        self.threads = version.threads
        self._reader = version.reader(version.model)
        self._device = version.model.device
        self._joining: deque[_Joining] = deque()
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        """Completions under way, those included whose prompt is still being read."""
        return len(self._rows) + sum(joining.decoding.sampling.choices for joining in self._joining)

    def admit(self, decoding: Decoding) -> None:
        """Let a request join."""
        decoding.begin()
        self._joining.append(_Joining(decoding, self._reader.open(len(decoding.prompt_ids))))

    def advance(self) -> None:
        """Read on in the prompts that join, and give every completion its next token."""
        self._leave()
        self._read_prompts()
        if self._rows:
            logits = self._reader.step([row.choice.token_ids[-1] for row in self._rows])
            self._draw(logits, self._rows)
            self._leave()

    def fail(self, error: Exception) -> None:
        """End all requests with an error."""
        for decoding in {row.decoding for row in self._rows} | {joining.decoding for joining in self._joining}:
            decoding.end(error)

    def _leave(self) -> None:
        """Take out what has ended, and whatever nobody waits for any more."""
        for decoding in {row.decoding for row in self._rows} | {joining.decoding for joining in self._joining}:
            if decoding.left:
                decoding.end()
        self._joining = deque(joining for joining in self._joining if not joining.decoding.ended)
        for number in reversed(range(len(self._rows))):
            if self._rows[number].decoding.ended or self._rows[number].choice.stopped_by:
                self._reader.remove(number)
                last = self._rows.pop()
                if number < len(self._rows):
                    self._rows[number] = last

    def _read_prompts(self) -> None:
        tokens = 0
        while self._joining and tokens < PROMPT_TOKENS_PER_STEP:
            joining = self._joining.popleft()
            prompt_ids = joining.decoding.prompt_ids
            piece = prompt_ids[joining.read : joining.read + PROMPT_TOKENS_PER_STEP]
            tokens += len(piece)
            joining.read += len(piece)
            try:
                logits = self._reader.read(joining.memory, piece)
                if joining.read < len(prompt_ids):
                    self._joining.appendleft(joining)
                else:
                    self._begin(joining, logits)
            except Exception as error:
                _log_failure(joining.decoding)
                joining.decoding.end(error)

    def _begin(self, joining: _Joining, logits: Tensor) -> None:
        """Draw the first token of every choice; those that go on are rows from now on."""
        rows = [_Row(joining.decoding, index) for index in range(joining.decoding.sampling.choices)]
        self._draw(logits.expand(len(rows), -1), rows)
        going_on = [row for row in rows if not row.choice.stopped_by and not row.decoding.ended]
        if going_on:
            self._reader.add(joining.memory, len(going_on))
            self._rows += going_on

    def _draw(self, logits: Tensor, rows: Sequence[_Row]) -> None:
        """Draw the next token of each row from `logits` (rows, vocabulary)."""
        numeric = numeric_rows(logits)
        if not bool(numeric.all()):
            for row in (~numeric).nonzero().flatten().tolist():
                rows[row].decoding.end(BrokenModelError())
        for (temperature, top_p), members in _alike(rows):
            numbers = torch.tensor([rows[row].choice.next_number() for row in members], dtype=torch.float64)
            chosen = logits if len(members) == len(rows) else logits[members]
            drawn = draw_tokens(chosen, numbers.to(self._device), temperature=temperature, top_p=top_p)
            for row, token in zip(members, drawn.tolist(), strict=True):
                rows[row].decoding.take(rows[row].index, token)
        for decoding in {row.decoding for row in rows}:
            if not decoding.ended:
                decoding.changed()


def _alike(rows: Sequence[_Row]) -> Iterator[tuple[tuple[float, float], list[int]]]:
    """Temperature and top-p, and the numbers of the rows that are drawn with them; without those that have failed."""
    members: dict[tuple[float, float], list[int]] = {}
    for number, row in enumerate(rows):
        sampling = row.decoding.sampling
        if not row.decoding.ended:
            members.setdefault((sampling.temperature, sampling.top_p), []).append(number)
    yield from members.items()


def _log_failure(decoding: Decoding) -> None:
    """Write down the exception being handled, under the id of the request that it fell upon."""
    log.exception("A request failed on the computing thread", extra={"fields": {"request_id": decoding.request_id}})
