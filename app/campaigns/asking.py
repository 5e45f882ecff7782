"""What a campaign revision asks beside the verdict: strength, criteria, confidence, ratings, flags and a rationale.

It is stored with the revision, as `criteria` and `scales`, so that each judgment keeps what it was asked.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

STRENGTHS = 4
"""Levels per side, 4 the strongest: those of Llama 2 (Touvron et al. 2023, section 3.2.1), and each half of the eight
points of Anthropic's HH (Bai et al. 2022, appendix D)."""
CONFIDENCES = 5


class Strength(StrEnum):
    """How it is asked by how much the better of two is better."""

    NONE = ""
    WORDS = "words"
    """Four words for each side, as for Llama 2."""
    POINTS = "points"
    """Eight points from one side to the other, as for Anthropic's HH."""


class Rationale(StrEnum):
    """Whether a reason is asked for."""

    NONE = ""
    OPTIONAL = "optional"
    REQUIRED = "required"


class Stored(BaseModel):
    """A value that a revision holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Criterion(Stored):
    """Something to judge by; `name` is what the datasets call it."""

    name: str
    help: str = ""


class Asked(Stored):
    """All of it. `rating` is the highest rating, 0 where none is asked for."""

    criteria: tuple[Criterion, ...] = ()
    strength: Strength = Strength.NONE
    confidence: bool = False
    rating: int = 0
    flags: tuple[str, ...] = ()
    rationale: Rationale = Rationale.NONE
    corrections: bool = False
    """Whether annotators may write a better one after their verdict."""

    def beside(self, count: int) -> bool:
        """Whether anything is asked beside verdict and strength on `count` completions; criteria are for two."""
        return bool((self.criteria and count == 2) or self.confidence or self.rating or self.flags or self.rationale)

    def scales(self) -> dict[str, Any]:
        """What a revision stores as `scales`: what is asked for, and nothing else."""
        return self.model_dump(mode="json", exclude={"criteria"}, exclude_defaults=True)


NOTHING = Asked()


def asked_by(criteria: list[Any], scales: dict[str, Any]) -> Asked:
    """What a revision asks, from what it stores."""
    return _asked(orjson.dumps([criteria, scales])) if criteria or scales else NOTHING


@lru_cache(maxsize=256)
def _asked(stored: bytes) -> Asked:
    criteria, scales = orjson.loads(stored)
    return Asked.model_validate({**scales, "criteria": criteria})
