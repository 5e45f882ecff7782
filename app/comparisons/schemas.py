"""What the judging pages send."""

import uuid
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from app.comparisons.service.answers import Given
from app.comparisons.service.editing import ALL_BAD
from app.comparisons.service.judging import Verdict
from app.comparisons.service.presenting import MOST_LEFT


class DeskForm(BaseModel):
    """What every form at the desk carries: what the page said was judged and left, to count on from there.

    `shape` is that of the comparison for which it has its sheets.
    """

    shape: str = ""
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
    """A verdict: a ranking of shown positions (`2>1`, `1=2`), or that all are bad, with the shown comparison's key.

    `graded` is a ranking with its strength in one value, as a button sends it: `2>1:3`. What the campaign asks beside
    it comes in fields of their own, for `app/comparisons/service/answers.py`.
    """

    model_config = ConfigDict(extra="allow")

    key: uuid.UUID
    ranking: str | None = None
    graded: str | None = None
    all_bad: bool = False
    active_ms: int | None = None
    revision: int | None = None
    ui_version: str = ""

    def verdict(self) -> Verdict:
        """The verdict in the terms of the service."""
        ranking, strength = self.ranking, None
        if self.graded is not None:
            ranking, _, level = self.graded.partition(":")
            strength = int(level) if level in {"1", "2", "3", "4"} else None
        return Verdict(
            ranking=ranking,
            beside=Given(self.model_extra or {}, strength),
            all_bad=self.all_bad,
            active_ms=self.active_ms,
            ui_version=self.ui_version,
            revision=self.revision,
        )


class ChangeForm(JudgmentForm):
    """Another verdict on what was judged. `chosen` is that on a pair, in one value: `2>1`, `2>1:3`, `all_bad`."""

    chosen: str = ""

    def verdict(self) -> Verdict:
        """The verdict in the terms of the service."""
        if self.chosen == ALL_BAD:
            given = self.model_copy(update={"all_bad": True})
        else:
            given = self.model_copy(update={"graded": self.chosen or self.graded})
        return super(ChangeForm, given).verdict()


class SkipForm(DeskForm):
    """Passing on a comparison, with or without a reason; `without_reason` leaves out one that was only begun."""

    reason: str = ""
    without_reason: bool = False


class RetractionForm(DeskForm):
    """Undo; the key makes a second press harmless."""

    key: uuid.UUID
