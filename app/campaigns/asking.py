"""What a campaign revision asks beside the verdict: strength, criteria, confidence, ratings, flags, error spans and
a rationale; or, by criteria alone, in its place.

It is stored with the revision, as `criteria` and `scales`, so that each judgment keeps what it was asked.
"""

from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict

STRENGTHS = 4
"""Levels per side, 4 the strongest: those of Llama 2 (Touvron et al. 2023, section 3.2.1), and each half of the eight
points of Anthropic's HH (Bai et al. 2022, appendix D)."""
CONFIDENCES = 5
MOST_SPANS = 50
"""Marked in one completion, by one judgment; more is not marked with care."""


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
    """Something to judge by, or a category of errors; `name` is what the datasets call it."""

    name: str
    help: str = ""


class Asked(Stored):
    """All of it. `rating` is the highest rating, 0 where none is; `reasons` are put at hand for a rationale."""

    criteria: tuple[Criterion, ...] = ()
    criteria_alone: bool = False
    """Whether they stand in the place of the verdict, which then follows from them."""
    strength: Strength = Strength.NONE
    confidence: bool = False
    rating: int = 0
    flags: tuple[str, ...] = ()
    spans: tuple[Criterion, ...] = ()
    """Categories under which stretches of a text are marked."""
    most_spans: ClassVar[int] = MOST_SPANS
    rationale: Rationale = Rationale.NONE
    reasons: tuple[str, ...] = ()
    corrections: bool = False
    """Whether annotators may write a better one after their verdict."""

    @property
    def beside(self) -> bool:
        """Whether anything is asked beside the verdict and its strength."""
        return bool(self.criteria or self.confidence or self.rating or self.flags or self.rationale)

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
