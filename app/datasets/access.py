"""Turning the id of a snapshot, or of a line to freeze, into the thing itself, if this person may read it.

A snapshot of one campaign is for whoever may read that campaign. One of a whole line holds the judgments of all
campaigns that were on the line at its instant, so it is for whoever may read every one of them.
"""

from datetime import datetime
from typing import Annotated

from fastapi import Depends
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.accounts.service.sign_ins import Person
from app.campaigns.access import campaigns_with_access
from app.campaigns.models import Access, Campaign
from app.database import DbSession
from app.datasets.models import Snapshot
from app.datasets.scope import Scope, campaigns_in
from app.deployments.models import ModelLine
from app.errors import Forbidden, NotFound
from app.wording import gettext as _
from app.wording import mark as N_


def readable_campaigns(session: Session, *, person: Person) -> list[Campaign]:
    """The campaigns whose judgments a person may see and freeze."""
    return campaigns_with_access(session, person=person, least=Access.RESEARCH)


def wholly_readable_lines(session: Session, *, person: Person) -> list[ModelLine]:
    """The lines that have campaigns, all of which a person may read."""
    readable = {campaign.id for campaign in readable_campaigns(session, person=person)}
    lines = session.scalars(select(ModelLine).order_by(ModelLine.id))
    of_line = {line: campaigns_in(session, Scope(line_id=line.id, campaign_id=None)) for line in lines}
    return [
        line
        for line, campaigns in of_line.items()
        if campaigns and all(campaign.id in readable for campaign in campaigns)
    ]


def may_read(session: Session, *, snapshot: Snapshot, person: Person) -> bool:
    """Whether a person may see and download a snapshot."""
    return person.is_admin or _covers(session, scope=Scope.of(snapshot), as_of=snapshot.as_of, person=person)


def _covers(
    session: Session, *, scope: Scope, as_of: datetime, person: Person, least: Access = Access.RESEARCH
) -> bool:
    """Whether a person has at least this access to every campaign of a scope that was there at an instant."""
    readable = {campaign.id for campaign in campaigns_with_access(session, person=person, least=least)}
    held = [campaign for campaign in campaigns_in(session, scope) if campaign.created_at <= as_of]
    return bool(held) and all(campaign.id in readable for campaign in held)


UNKNOWN = N_(
    "There is no such snapshot, or it holds judgments of a campaign that you may not read. Ask the campaign's manager."
)


@declares(Needs.READS)
def readable_snapshot(snapshot_id: int, person: CurrentPerson, session: DbSession) -> Snapshot:
    """A snapshot that this person may see."""
    snapshot = session.get(Snapshot, snapshot_id)
    if snapshot is None or not may_read(session, snapshot=snapshot, person=person):
        raise NotFound(_(UNKNOWN))
    return snapshot


@declares(Needs.READS)
def wholly_readable_line(line_id: int, person: CurrentPerson, session: DbSession) -> ModelLine:
    """A line all of whose campaigns this person may read; for admins, any line."""
    line = session.get(ModelLine, line_id)
    if line is None or not (person.is_admin or line in wholly_readable_lines(session, person=person)):
        raise NotFound(
            _(
                "There is no such model line, or you may not read all of its campaigns. Freeze one of "
                "your campaigns, or ask an admin."
            )
        )
    return line


def may_withdraw(session: Session, *, snapshot: Snapshot, person: Person) -> bool:
    """Whether a person may take a snapshot back: an admin, or the manager of every campaign that it holds."""
    if person.is_admin:
        return True
    return _covers(session, scope=Scope.of(snapshot), as_of=snapshot.as_of, person=person, least=Access.MANAGE)


@declares(Needs.MANAGES)
def managed_snapshot(snapshot_id: int, person: CurrentPerson, session: DbSession) -> Snapshot:
    """A snapshot that this person may take back."""
    snapshot = readable_snapshot(snapshot_id, person, session)
    if not may_withdraw(session, snapshot=snapshot, person=person):
        raise Forbidden(_("Only an admin, or whoever manages every campaign that it holds, may withdraw a snapshot."))
    return snapshot


ManagedSnapshot = Annotated[Snapshot, Depends(managed_snapshot)]
ReadableSnapshot = Annotated[Snapshot, Depends(readable_snapshot)]
WhollyReadableLine = Annotated[ModelLine, Depends(wholly_readable_line)]
