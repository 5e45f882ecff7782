"""What the judging pages send."""

import uuid
from datetime import date, datetime

from pydantic import BaseModel

from app.comparisons.service.judging import Verdict
from app.comparisons.service.presenting import MOST_LEFT


class DeskForm(BaseModel):
    """What every form at the desk carries: what the page said was judged and left, to count on from there."""

    left: int | None = None
    judged_today: int | None = None
    day: date | None = None

    def left_after(self, done: int) -> int | None:
        """How many are left after `done` more; None where the page did not say, unchanged where it said "or more"."""
        if self.left is None or self.left >= MOST_LEFT:
            return self.left
        return self.left - done

    def judged_today_after(self, done: int, now: datetime) -> int | None:
        """How many were judged today after `done` more; None where the page did not say, or said it yesterday."""
        if self.judged_today is None or self.day != now.date():
            return None
        return self.judged_today + done


class JudgmentForm(DeskForm):
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


class SkipForm(DeskForm):
    """Passing on a comparison, with or without a reason."""

    reason: str = ""


class RetractionForm(DeskForm):
    """Undo; the key makes a second press harmless."""

    key: uuid.UUID
