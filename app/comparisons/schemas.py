"""What the judging pages send."""

import uuid

from pydantic import BaseModel

from app.comparisons.service.judging import Verdict


class JudgmentForm(BaseModel):
    """A verdict: a ranking of shown positions (`2>1`, `1=2`), or that all are bad, with the shown comparison's key."""

    key: uuid.UUID
    ranking: str | None = None
    all_bad: bool = False
    active_ms: int | None = None
    revision: int | None = None
    ui_version: str = ""

    def verdict(self) -> Verdict:
        """The verdict in the terms of the service."""
        return Verdict(
            ranking=self.ranking,
            all_bad=self.all_bad,
            active_ms=self.active_ms,
            ui_version=self.ui_version,
            revision=self.revision,
        )


class SkipForm(BaseModel):
    """Passing on a comparison, with or without a reason."""

    reason: str = ""


class RetractionForm(BaseModel):
    """Undo; the key makes a second press harmless."""

    key: uuid.UUID
