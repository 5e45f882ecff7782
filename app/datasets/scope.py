"""What a snapshot is of: one campaign, or every campaign that trains a line."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.datasets.models import Snapshot
from app.deployments.models import ModelLine
from app.errors import NotFound
from app.wording import gettext as _


@dataclass(frozen=True)
class Scope:
    """One campaign (`campaign_id`), or else all campaigns of a line."""

    line_id: int | None
    campaign_id: int | None

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Scope":
        """The scope of a snapshot."""
        return cls(line_id=snapshot.line_id, campaign_id=snapshot.campaign_id)


def resolved_scope(session: Session, *, line_id: int | None, campaign_id: int | None) -> Scope:
    """A scope as snapshots record it: a campaign with its line. Raises NotFound where there is no such thing."""
    if campaign_id is not None:
        campaign = session.get(Campaign, campaign_id)
        if campaign is None:
            raise NotFound(_("There is no such campaign."))
        return Scope(line_id=campaign.line_id, campaign_id=campaign_id)
    if line_id is None or session.get(ModelLine, line_id) is None:
        raise NotFound(_("Say which line or which campaign to take; there is no such line."))
    return Scope(line_id=line_id, campaign_id=None)


def campaigns_in(session: Session, scope: Scope) -> list[Campaign]:
    """The campaigns whose judgments belong to a scope, oldest first."""
    query = select(Campaign).order_by(Campaign.id)
    if scope.campaign_id is not None:
        return list(session.scalars(query.where(Campaign.id == scope.campaign_id)))
    return list(session.scalars(query.where(Campaign.line_id == scope.line_id)))


def scope_name(session: Session, scope: Scope) -> str:
    """What people call the scope: the campaign's name, or the line's."""
    if scope.campaign_id is not None:
        return session.get_one(Campaign, scope.campaign_id).name
    return session.get_one(ModelLine, scope.line_id).name


def scope_labels(session: Session, scope: Scope) -> dict[str, str]:
    """The scope as a manifest states it: `line` by slug, `campaign` by id."""
    labels = {}
    if scope.line_id is not None:
        labels["line"] = session.get_one(ModelLine, scope.line_id).slug
    if scope.campaign_id is not None:
        labels["campaign"] = str(scope.campaign_id)
    return labels
