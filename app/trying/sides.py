"""Whom a person may talk to: the versions of the lines that they may see."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.accounts.service.sign_ins import Person
from app.database import DbSession
from app.deployments.model_server import load_order
from app.deployments.models import Endpoint, ModelLine, ModelVersion
from app.deployments.service import find_current_version, list_writers, refuse_reward_model
from app.errors import NotFound
from app.training.access import visible_lines
from app.wording import gettext as _
from trainer.contract.server import LoadVersion


@dataclass(frozen=True)
class Side:
    """A version to talk to, with all that it takes to reach it once no database is at hand."""

    version_id: int
    name: str
    order: LoadVersion
    """What our own model server is told where it has not loaded it."""
    endpoint: Endpoint | None

    @classmethod
    def of(cls, version: ModelVersion) -> "Side":
        """A version as somebody to talk to."""
        return cls(version.id, version.name, load_order(version), version.endpoint)


@dataclass(frozen=True)
class Choice:
    """A line with its versions, newest first, and which of them serves."""

    line: ModelLine
    versions: list[ModelVersion]
    current_id: int | None


def choices_of(session: Session, *, person: Person) -> list[Choice]:
    """Everybody whom a person may talk to."""
    return [
        Choice(line, list_writers(session, line_id=line.id), current.id if current else None)
        for line in visible_lines(session, person=person)
        for current in [find_current_version(session, line_id=line.id)]
    ]


def get_side(session: Session, *, version_id: int, person: Person) -> Side:
    """A version by id, if this person may see its line. Raises NotFound, or Conflict for a reward model."""
    version = session.get(ModelVersion, version_id)
    if version is None or version.line_id not in {line.id for line in visible_lines(session, person=person)}:
        raise NotFound(_("There is no such model version, or you have no part in its line."))
    refuse_reward_model(version)
    return Side.of(version)


@declares(Needs.READS)
def readable_side(version_id: int, person: CurrentPerson, session: DbSession) -> Side:
    """A version that this person may talk to."""
    return get_side(session, version_id=version_id, person=person)


ReadableSide = Annotated[Side, Depends(readable_side)]
