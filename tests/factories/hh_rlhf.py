"""HH-RLHF's transcripts as rankings: a dialogue of `Human:` and `Assistant:` turns whose last turn differs."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.factories.snapshots import Row, ranking_row

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def turns_of(transcript: str) -> list[dict[str, str]]:
    """A transcript as chat messages."""
    parts = _TURN.split(transcript)[1:]
    return [
        {"role": _ROLES[speaker], "content": text.strip()}
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def hh_rlhf_rankings(path: Path) -> Iterator[Row]:
    """Each pair as a ranking of two; pairs that differ before the last turn, or do not end in one, are passed over."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            pair = json.loads(line)
            chosen, rejected = turns_of(pair["chosen"]), turns_of(pair["rejected"])
            ends_alike = chosen[:-1] == rejected[:-1] and chosen[-1]["role"] == rejected[-1]["role"] == "assistant"
            if ends_alike and len(chosen) > 1:
                texts = [chosen[-1]["content"], rejected[-1]["content"]]
                yield ranking_row(chosen[:-1], texts, prompt_id=f"hh-{number}")
