"""Turning a line's or a run's id in a URL into the thing itself, if this person may touch it.

A person's part in a line is the best that any campaign on it gives them; admins have every line.
"""

from typing import Annotated

from fastapi import Depends
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.accounts.service.sign_ins import Person
from app.campaigns.access import LEVELS, campaigns_with_access
from app.campaigns.models import Access
from app.database import DbSession
from app.deployments.models import ModelLine
from app.deployments.service import list_lines
from app.errors import Forbidden, NotFound
from app.training.models import Run
from app.wording import gettext as _


def line_access(session: Session, *, line_id: int, person: Person) -> Access:
    """What a person may see and do on a line."""
    if person.is_admin:
        return Access.MANAGE
    for access in (Access.MANAGE, Access.RESEARCH):
        if any(campaign.line_id == line_id for campaign in campaigns_with_access(session, person=person, least=access)):
            return access
    return Access.NONE


def may_manage(session: Session, *, line_id: int, person: Person) -> bool:
    """Whether a person may deploy, roll back and override the gate on a line."""
    return line_access(session, line_id=line_id, person=person) is Access.MANAGE


def visible_lines(session: Session, *, person: Person) -> list[ModelLine]:
    """The lines whose versions and runs a person may see."""
    if person.is_admin:
        return list_lines(session)
    campaigns = campaigns_with_access(session, person=person, least=Access.RESEARCH)
    line_ids = {campaign.line_id for campaign in campaigns if campaign.line_id is not None}
    return list(session.scalars(select(ModelLine).where(ModelLine.id.in_(line_ids)).order_by(ModelLine.id)))


def _require_line(session: Session, *, line_id: int, person: Person, least: Access) -> ModelLine:
    line = session.get(ModelLine, line_id)
    access = line_access(session, line_id=line_id, person=person)
    if line is None or access is Access.NONE:
        raise NotFound(
            _("There is no such model line, or you have no part in it. Ask the manager of a campaign on it.")
        )
    if LEVELS[access] < LEVELS[least]:
        raise Forbidden(_("Only managers of a campaign on this line may do this. Ask one of them."))
    return line


@declares(Needs.READS)
def readable_line(line_id: int, person: CurrentPerson, session: DbSession) -> ModelLine:
    """A line that this person may see: researchers and managers of its campaigns, admins."""
    return _require_line(session, line_id=line_id, person=person, least=Access.RESEARCH)


@declares(Needs.TRAINS)
def trainable_line(line_id: int, person: CurrentPerson, session: DbSession) -> ModelLine:
    """A line on which this person may start runs."""
    return _require_line(session, line_id=line_id, person=person, least=Access.RESEARCH)


@declares(Needs.MANAGES)
def managed_line(line_id: int, person: CurrentPerson, session: DbSession) -> ModelLine:
    """A line whose deployments this person decides on."""
    return _require_line(session, line_id=line_id, person=person, least=Access.MANAGE)


def _require_run(session: Session, *, run_id: int, person: Person, least: Access) -> Run:
    run = session.get(Run, run_id)
    if run is None or line_access(session, line_id=run.line_id, person=person) is Access.NONE:
        raise NotFound(_("There is no such run, or you have no part in its model line."))
    _require_line(session, line_id=run.line_id, person=person, least=least)
    return run


@declares(Needs.READS)
def readable_run(run_id: int, person: CurrentPerson, session: DbSession) -> Run:
    """A run that this person may see."""
    return _require_run(session, run_id=run_id, person=person, least=Access.RESEARCH)


@declares(Needs.TRAINS)
def trainable_run(run_id: int, person: CurrentPerson, session: DbSession) -> Run:
    """A run that this person may cancel."""
    return _require_run(session, run_id=run_id, person=person, least=Access.RESEARCH)


@declares(Needs.MANAGES)
def managed_run(run_id: int, person: CurrentPerson, session: DbSession) -> Run:
    """A run whose version this person may deploy."""
    return _require_run(session, run_id=run_id, person=person, least=Access.MANAGE)


def readable_campaign_ids(session: Session, *, person: Person, line_id: int) -> set[int]:
    """The campaigns of a line whose prompts and completions a person may see."""
    campaigns = campaigns_with_access(session, person=person, least=Access.RESEARCH)
    return {campaign.id for campaign in campaigns if campaign.line_id == line_id}


ReadableLine = Annotated[ModelLine, Depends(readable_line)]
TrainableLine = Annotated[ModelLine, Depends(trainable_line)]
ManagedLine = Annotated[ModelLine, Depends(managed_line)]
ReadableRun = Annotated[Run, Depends(readable_run)]
TrainableRun = Annotated[Run, Depends(trainable_run)]
ManagedRun = Annotated[Run, Depends(managed_run)]
