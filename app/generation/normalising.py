"""When two texts count as the same, and on which side of the held-out line a prompt falls."""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

EVAL_SHARE = 0.2
"""Share of prompts held out for evaluation."""


def normalised(text: str) -> str:
    """A text without what the eye does not tell apart: Unicode form, letter case, runs of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_sha256(text: str) -> str:
    """Hash of a text as normalised; texts that count as the same share it."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()


def messages_sha256(messages: Sequence[dict[str, Any]]) -> str:
    """Hash of a chat as normalised, roles included."""
    lines = [f"{message['role']}\x1f{normalised(str(message['content']))}" for message in messages]
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()


def split_of(sha256: str) -> Literal["train", "eval"]:
    """The side of a prompt that is like no other before it: a pure function of its text, the same for ever."""
    position = int(hashlib.sha256(f"split:{sha256}".encode()).hexdigest()[:15], 16) / 16**15
    return "eval" if position < EVAL_SHARE else "train"
