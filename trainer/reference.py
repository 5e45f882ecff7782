"""What the reference model says about the completions in training: computed once, and kept.

Log-probabilities are kept across runs, per completion, under the hashes of the model, the prompt and the
completion (as token ids, so another tokenizer or chat template is another key). The whole distributions
that the drift term compares with are kept in memory where they fit, else computed anew in every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.contract.files import write_whole
from trainer.groups import Tokens
from trainer.logps import (
    PaddedBatch,
    batches_by_length,
    completion_logps,
    padded_batch,
    summed_by_sequence,
    token_logps,
    vocabulary_size,
)

DISTRIBUTION_BYTES = 512 * 2**20
"""Most memory for the reference's whole distributions over the training completions."""

LogpTable = dict[str, float]
"""log p(completion | prompt) in nats by `sequence_key`."""


class Reference:
    """The frozen model that training is measured against."""

    def __init__(self, model: PreTrainedModel, table: LogpTable, distributions: dict[Tokens, Tensor] | None) -> None:
        self.model = model
        self._table = table
        self._distributions = distributions

    def logps(self, sequences: Sequence[Tokens]) -> Tensor:
        """log p(completion | prompt) of each sequence, float64, shape (sequences,); KeyError for one unknown."""
        return torch.tensor([self._table[sequence_key(sequence)] for sequence in sequences], dtype=torch.float64)

    @torch.no_grad()
    def distributions(self, sequences: Sequence[Tokens], batch: PaddedBatch) -> Tensor:
        """Log-probabilities of the vocabulary at each completion token of the batch, shape (tokens, vocabulary)."""
        if self._distributions is None:
            return completion_logps(self.model, batch)
        return torch.cat([self._distributions[sequence] for sequence in sequences])


def prepare_reference(
    model: PreTrainedModel,
    sequences: Iterable[Tokens],
    *,
    table: LogpTable,
    with_distributions_of: Iterable[Tokens],
    on_progress: Callable[[float], None],
) -> tuple[Reference, LogpTable]:
    """The reference with all that it says about `sequences`, and the log-probabilities that `table` lacked.

    `with_distributions_of` are the sequences that the drift term will ask about, none where it is off. They
    are computed apart from the rest: in which batch, and so to the last bit, must not depend on the table.
    """
    drifting = list(dict.fromkeys(with_distributions_of))
    needed_bytes = sum(len(sequence.completion) for sequence in drifting) * vocabulary_size(model) * 4
    distributions: dict[Tokens, Tensor] | None = {} if needed_bytes <= DISTRIBUTION_BYTES else None
    added: LogpTable = {}
    if distributions is not None:
        for sequence, rows, logp in _scored(model, drifting, on_progress=lambda share: on_progress(0.7 * share)):
            distributions[sequence] = rows.clone()
            added[sequence_key(sequence)] = logp
    rest = [s for s in dict.fromkeys(sequences) if sequence_key(s) not in table and sequence_key(s) not in added]
    for sequence, _, logp in _scored(model, rest, on_progress=lambda share: on_progress(0.7 + 0.3 * share)):
        added[sequence_key(sequence)] = logp
    added = {key: logp for key, logp in added.items() if key not in table}
    return Reference(model, {**table, **added}, distributions), added


@torch.no_grad()
def _scored(
    model: PreTrainedModel, sequences: Sequence[Tokens], *, on_progress: Callable[[float], None]
) -> Iterator[tuple[Tokens, Tensor, float]]:
    """Each sequence with its distributions (completion tokens, vocabulary) and its summed log-probability."""
    done = 0
    for indices in batches_by_length(sequences, vocabulary=vocabulary_size(model)):
        members = [sequences[index] for index in indices]
        batch = padded_batch(members, device=model.device)
        logps = completion_logps(model, batch)
        sums = summed_by_sequence(token_logps(logps, batch), batch).tolist()
        yield from zip(members, torch.split(logps, list(batch.counts)), sums, strict=True)
        done += len(members)
        on_progress(done / len(sequences))


def sequence_key(sequence: Tokens) -> str:
    """`<hash of the prompt's token ids>:<hash of the completion's>`, 128 bits each."""
    return f"{_ids_hash(sequence.prompt)}:{_ids_hash(sequence.completion)}"


def _ids_hash(token_ids: tuple[int, ...]) -> str:
    return hashlib.sha256(",".join(map(str, token_ids)).encode()).hexdigest()[:32]


def read_table(folder: Path) -> LogpTable:
    """All log-probabilities kept in a folder; a line that cannot be read is as if it were not there."""
    table: LogpTable = {}
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
                table[str(entry["sequence"])] = float(entry["logp"])
            except (ValueError, KeyError, TypeError):
                continue
    return table


def add_to_table(folder: Path, entries: LogpTable) -> None:
    """Keep more log-probabilities in a folder: one new file, whole or not at all, so that runs may share it."""
    if not entries:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"sequence": key, "logp": value}) for key, value in sorted(entries.items())]
    data = ("\n".join(lines) + "\n").encode()
    write_whole(folder / f"{hashlib.sha256(data).hexdigest()[:32]}.jsonl", data)
