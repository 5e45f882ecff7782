"""What the reference model says about the completions in training: computed once, and kept.

Log-probabilities are kept across runs, per completion, under the hashes of the model, the prompt and the
completion (as token ids, so another tokenizer or chat template is another key). The whole distributions
that the drift term compares with are kept in memory where they fit, else computed anew in every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainer.contract.files import write_whole
from trainer.logps import Scorer, vocabulary_size
from trainer.packing import Tokens, Tree, trees_of

DISTRIBUTION_BYTES = 512 * 2**20
"""Most memory for the reference's whole distributions over the training completions."""

LogpTable = dict[str, float]
"""log p(completion | prompt) in nats by `sequence_key`."""


class Reference:
    """The frozen model that training is measured against."""

    def __init__(self, scorer: Scorer, table: LogpTable, distributions: dict[Tokens, Tensor] | None) -> None:
        self.scorer = scorer
        self._table = table
        self._distributions = distributions

    def logps(self, sequences: Sequence[Tokens]) -> Tensor:
        """log p(completion | prompt) of each sequence, float64, shape (sequences,); KeyError for one unknown."""
        return torch.tensor([self._table[sequence_key(sequence)] for sequence in sequences], dtype=torch.float64)

    def distributions(self, trees: Sequence[Tree]) -> Tensor:
        """Log-probabilities of the vocabulary at each completion token of the trees, shape (tokens, vocabulary)."""
        if self._distributions is None:
            return self.scorer.distributions(trees)
        return torch.cat([self._distributions[sequence] for tree in trees for sequence in tree.sequences])


def prepare_reference(
    scorer: Scorer,
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
    vocabulary = vocabulary_size(scorer.model)
    needed_bytes = sum(len(sequence.completion) for sequence in drifting) * vocabulary * 4
    distributions: dict[Tokens, Tensor] | None = None
    added: LogpTable = {}
    if needed_bytes <= DISTRIBUTION_BYTES:
        distributions = _distributions(scorer, drifting, on_progress=lambda share: on_progress(0.7 * share))
        added = {sequence_key(sequence): _logp(sequence, rows) for sequence, rows in distributions.items()}
    rest = [s for s in dict.fromkeys(sequences) if sequence_key(s) not in table and sequence_key(s) not in added]
    done = 0
    for trees in scorer.in_parts(trees_of(rest)):
        members = [sequence for tree in trees for sequence in tree.sequences]
        added |= zip(map(sequence_key, members), scorer.sequence_logps(members), strict=True)
        done += len(members)
        on_progress(0.7 + 0.3 * done / len(rest))
    added = {key: logp for key, logp in added.items() if key not in table}
    return Reference(scorer, {**table, **added}, distributions), added


def _distributions(
    scorer: Scorer, sequences: Sequence[Tokens], *, on_progress: Callable[[float], None]
) -> dict[Tokens, Tensor]:
    """Of each sequence the distributions at its completion tokens, shape (completion tokens, vocabulary)."""
    found: dict[Tokens, Tensor] = {}
    for trees in scorer.in_parts(trees_of(sequences)):
        members = [sequence for tree in trees for sequence in tree.sequences]
        rows = torch.split(scorer.distributions(trees), [len(sequence.completion) for sequence in members])
        found |= zip(members, (each.clone() for each in rows), strict=True)
        on_progress(len(found) / len(sequences))
    return found


def _logp(sequence: Tokens, distributions: Tensor) -> float:
    targets = torch.tensor(sequence.completion, device=distributions.device)
    return float(distributions.gather(-1, targets[:, None]).double().sum())


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
