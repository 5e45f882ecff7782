"""What the reference model says about the completions in training: computed once, and kept.

Log-probabilities are kept across runs, per completion, under the hashes of the model, the prompt and the
completion (as token ids, so another tokenizer or chat template is another key). The whole distributions
that the drift term compares with are kept in memory where they fit; else what the head makes them from, which is as
wide as the model rather than as its vocabulary; else they are computed anew in every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.completion_head import Distributions
from trainer.contract.files import write_whole
from trainer.logps import Scorer
from trainer.memory import REFERENCE_BYTES
from trainer.packing import Tokens, Tree, trees_of

LogpTable = dict[str, float]
"""log p(completion | prompt) in nats by `sequence_key`."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a reference by sequence, as far as memory allows: distributions (completion tokens, vocabulary),
    or hidden states (completion tokens, width), or neither."""

    distributions: dict[Tokens, Tensor] | None = None
    hidden: dict[Tokens, Tensor] | None = None


class Reference:
    """The frozen model that training is measured against: log-probabilities by `sequence_key`, and what is kept."""

    def __init__(self, scorer: Scorer, table: LogpTable, kept: Kept) -> None:
        self.scorer = scorer
        self._table = table
        self.kept = kept

    def logps(self, sequences: Sequence[Tokens]) -> Tensor:
        """log p(completion | prompt) of each sequence, float64, shape (sequences,); KeyError for one unknown."""
        return torch.tensor([self._table[sequence_key(sequence)] for sequence in sequences], dtype=torch.float64)

    @property
    def reads_anew(self) -> bool:
        """Whether `distributions` takes a forward of the model."""
        return self.kept == Kept()

    def distributions(self, trees: Sequence[Tree]) -> Distributions:
        """Log-probabilities of the vocabulary at each completion token of the trees."""
        sequences = [sequence for tree in trees for sequence in tree.sequences]
        if self.kept.distributions is not None:
            return Distributions(torch.cat([self.kept.distributions[sequence] for sequence in sequences]))
        if self.kept.hidden is not None:
            return self.scorer.distributions_from(torch.cat([self.kept.hidden[sequence] for sequence in sequences]))
        return self.scorer.distributions(trees)


def prepare_reference(
    scorer: Scorer,
    sequences: Iterable[Tokens],
    *,
    table: LogpTable,
    with_distributions_of: Iterable[Tokens],
    on_progress: Callable[[float], None],
    most_bytes: int = REFERENCE_BYTES,
) -> tuple[Reference, LogpTable]:
    """The reference with all that it says about `sequences`, and the log-probabilities that `table` lacked.

    `with_distributions_of` are the sequences that the drift term will ask about, none where it is off.
    """
    kept = keep_distributions(
        scorer, with_distributions_of, on_progress=lambda share: on_progress(0.7 * share), most_bytes=most_bytes
    )
    return ask_about(
        scorer, sequences, table=table, kept=kept, on_progress=lambda share: on_progress(0.7 + 0.3 * share)
    )


def keep_distributions(
    scorer: Scorer,
    sequences: Iterable[Tokens],
    *,
    on_progress: Callable[[float], None],
    most_bytes: int = REFERENCE_BYTES,
) -> Kept:
    """What the drift term will compare with. It is computed apart from the log-probabilities of the rest: in which
    batch, and so to the last bit, must not depend on what is known of those."""
    drifting = list(dict.fromkeys(sequences))
    tokens = sum(len(sequence.completion) for sequence in drifting)
    head: Any = scorer.model.get_output_embeddings()
    vocabulary, width = head.weight.shape
    if tokens * vocabulary * 4 <= most_bytes:
        return Kept(distributions=_kept(scorer, lambda trees: scorer.distributions(trees)[:], drifting, on_progress))
    if not scorer.own_head and tokens * width * head.weight.element_size() <= most_bytes:
        return Kept(hidden=_kept(scorer, scorer.hidden, drifting, on_progress))
    return Kept()


def ask_about(
    scorer: Scorer,
    sequences: Iterable[Tokens],
    *,
    table: LogpTable,
    kept: Kept,
    on_progress: Callable[[float], None],
) -> tuple[Reference, LogpTable]:
    """The reference with what it says about all sequences, and the log-probabilities that `table` lacked."""
    known = {sequence_key(sequence): _logp(sequence, rows) for sequence, rows in (kept.distributions or {}).items()}
    rest = [s for s in dict.fromkeys(sequences) if sequence_key(s) not in table and sequence_key(s) not in known]
    done = 0
    for trees in scorer.in_parts(trees_of(rest)):
        members = [sequence for tree in trees for sequence in tree.sequences]
        known |= zip(map(sequence_key, members), scorer.sequence_logps(members), strict=True)
        done += len(members)
        on_progress(done / len(rest))
    added = {key: logp for key, logp in known.items() if key not in table}
    return Reference(scorer, {**table, **added}, kept), added


def _kept(
    scorer: Scorer,
    ask: Callable[[list[Tree]], Tensor],
    sequences: Sequence[Tokens],
    on_progress: Callable[[float], None],
) -> dict[Tokens, Tensor]:
    """What the scorer says of each sequence at its completion tokens, shape (completion tokens, …)."""
    found: dict[Tokens, Tensor] = {}
    for trees in scorer.in_parts(trees_of(sequences)):
        members = [sequence for tree in trees for sequence in tree.sequences]
        rows = torch.split(ask(trees), [len(sequence.completion) for sequence in members])
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
