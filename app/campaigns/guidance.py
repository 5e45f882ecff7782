"""What annotators are told before they judge: guidelines, and examples of what is good and what is bad.

Examples are stored with the campaign revision, as guidelines are, so that each judgment keeps what its annotator was
told. Nobody reads them once more for every judgment: a page has them until the revision is another one.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.asking import Stored
from app.campaigns.models import CampaignRevision

MOST_EXAMPLES = 20
OPEN_EXAMPLES = 3
"""More than these are shown folded, each with the beginning of its prompt."""
LONGEST_EXAMPLE = 4_000
"""Characters of each text of an example; what is as long is still rendered but once (`app/markdown.py`)."""


class Example(Stored):
    """A prompt with a good completion, a bad one, or both, and why they are so."""

    prompt: str
    good: str = ""
    bad: str = ""
    why: str = ""


@dataclass(frozen=True)
class Guidance:
    """Guidelines, in Markdown, and the examples that go with them."""

    guidelines: str = ""
    examples: tuple[Example, ...] = ()
    most_examples: ClassVar[int] = MOST_EXAMPLES
    longest_example: ClassVar[int] = LONGEST_EXAMPLE

    @property
    def says_something(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.guidelines.strip() or self.examples)

    @property
    def is_folded(self) -> bool:
        """Whether there are too many examples to show them all open."""
        return len(self.examples) > OPEN_EXAMPLES


_EXAMPLES = TypeAdapter(tuple[Example, ...])


def guidance(guidelines: str, examples: list[dict[str, Any]] | None) -> Guidance:
    """What a revision tells, from what it stores."""
    return Guidance(guidelines, _EXAMPLES.validate_python(examples or []))


def guidance_of(session: Session, *, revision_id: int) -> Guidance:
    """What annotators are told under a revision."""
    told = select(CampaignRevision.guidelines, CampaignRevision.examples).where(CampaignRevision.id == revision_id)
    return guidance(*session.execute(told).one())
