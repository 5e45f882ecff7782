"""Which comparisons somebody looks for: as typed, as it stands in an address, and as the search understands it."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field, field_validator

from app.wording import gettext as _
from app.wording import mark as N_

LONGEST_QUERY = 400
LARGEST_ID = 2**31 - 1


class Outcome(StrEnum):
    """What came of a comparison, as far as one judgment says, or all of them do."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    ALL_BAD = "all_bad"
    SKIPPED = "skipped"
    NOT_JUDGED = "not_judged"
    DISAGREEMENT = "disagreement"


OF_ONE_JUDGMENT = {Outcome.FIRST, Outcome.SECOND, Outcome.TIE, Outcome.ALL_BAD}

OUTCOME_LABELS = {
    Outcome.FIRST: N_("first preferred"),
    Outcome.SECOND: N_("second preferred"),
    Outcome.TIE: N_("tie"),
    Outcome.ALL_BAD: N_("all bad"),
    Outcome.SKIPPED: N_("skipped by somebody"),
    Outcome.NOT_JUDGED: N_("not judged"),
    Outcome.DISAGREEMENT: N_("judges disagree"),
}


class Counting(StrEnum):
    """Which judgments are meant; without it, all in force that are not rejected."""

    COUNTED = "counted"
    SURPLUS = "surplus"
    REJECTED = "rejected"


class Side(StrEnum):
    """Of the held-out line."""

    TRAIN = "train"
    EVAL = "eval"
    NEITHER = "neither"


class FilterForm(BaseModel):
    """The filter as typed, field by field. What is empty does not narrow."""

    q: str = Field(default="", max_length=LONGEST_QUERY)
    campaign: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    tag: str = Field(default="", max_length=200)
    version: int | None = Field(default=None, ge=1, le=LARGEST_ID)
    annotator: str = Field(default="", max_length=40)
    outcome: Outcome | None = None
    flag: str = Field(default="", max_length=200)
    counting: Counting | None = None
    split: Side | None = None
    since: date | None = None
    until: date | None = None

    @field_validator("q", "tag", "annotator", "flag")
    @classmethod
    def _storable(cls, value: str) -> str:
        """Without characters that no stored text holds, so that nothing can be found by them."""
        return value.replace("\x00", "").encode("utf-8", "ignore").decode().strip()

    @field_validator("since", "until")
    @classmethod
    def _plausible(cls, value: date | None) -> date | None:
        if value is not None and not 1970 <= value.year <= 9000:
            raise ValueError(_("This is no day on which anybody judged."))
        return value


@dataclass(frozen=True)
class Annotator:
    """Somebody who judged: a user of this installation, or a name in an import."""

    user_id: int | None = None
    import_id: int | None = None
    external: str | None = None


@dataclass(frozen=True)
class ComparisonFilter:
    """What is looked for. `annotator` stands for the pseudonym of the form."""

    form: FilterForm
    campaign_ids: list[int]
    """Where it is looked for: campaigns whose data the person may see."""
    annotator: Annotator | None = None

    @property
    def since(self) -> datetime | None:
        """The first instant that is meant."""
        return None if self.form.since is None else datetime.combine(self.form.since, time(), UTC)

    @property
    def until(self) -> datetime | None:
        """The instant from which on nothing is meant: the end of the last day."""
        day = self.form.until
        return None if day is None else datetime.combine(day + timedelta(days=1), time(), UTC)

    @property
    def asks_for_judgments(self) -> bool:
        """Whether it says something of single judgments, so that a comparison is found by one that is like that."""
        form = self.form
        of_skips = form.outcome is Outcome.SKIPPED
        about_person_or_time = self.annotator is not None or form.since is not None or form.until is not None
        return bool(
            form.outcome in OF_ONE_JUDGMENT
            or form.flag
            or form.counting is not None
            or (about_person_or_time and not of_skips)
        )


def in_address(form: FilterForm) -> dict[str, str]:
    """The filter as an address has it: only what narrows."""
    given: dict[str, Any] = form.model_dump(mode="json")
    return {name: str(value) for name, value in given.items() if value not in {None, ""}}


_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana and Han, written without spaces: an index knows no word in the middle of a line."""

_TERM = re.compile(r'"([^"]+)"|(\S+)')


def needs_substrings(query: str) -> bool:
    """Whether a search must look for the characters themselves, for its script does not set words apart."""
    return bool(_WITHOUT_SPACES.search(query))


def terms(query: str) -> list[str]:
    """The words and "quoted phrases" of a search, at most eight."""
    return [quoted or plain for quoted, plain in _TERM.findall(query)][:8]
