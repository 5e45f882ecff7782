"""The campaigns that a person has any part in."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.service.sign_ins import Person
from app.campaigns.access import within
from app.campaigns.models import Access, Campaign, CampaignState, Enrolment
from app.campaigns.service.progress import CampaignProgress, progress_by_campaign

ORDER = [CampaignState.OPEN, CampaignState.PAUSED, CampaignState.DRAFT, CampaignState.CLOSED]


@dataclass(frozen=True)
class ListedCampaign:
    """A campaign as one person's list shows it: what they may do there, and how far it is."""

    campaign: Campaign
    judges: bool
    access: Access
    progress: CampaignProgress

    @property
    def is_readable(self) -> bool:
        """Whether this person may open the campaign's own page."""
        return self.access is not Access.NONE


def list_campaigns(session: Session, *, person: Person) -> list[ListedCampaign]:
    """Admins see every campaign, others those they are enrolled in; open ones first, then the newest."""
    query = select(Campaign, Enrolment).order_by(Campaign.id.desc())
    mine = (Enrolment.campaign_id == Campaign.id) & (Enrolment.user_id == person.id)
    rows = session.execute(query.join(Enrolment, mine, isouter=person.is_admin)).all()
    progress = progress_by_campaign(session, [campaign.id for campaign, _ in rows])
    listed = [
        ListedCampaign(
            campaign=campaign,
            judges=enrolment is not None and enrolment.judges,
            access=_access(person, enrolment),
            progress=progress[campaign.id],
        )
        for campaign, enrolment in rows
    ]
    return sorted(listed, key=lambda item: ORDER.index(item.campaign.state))


def _access(person: Person, enrolment: Enrolment | None) -> Access:
    if person.is_admin:
        return Access.MANAGE
    return within(enrolment.access, person.role) if enrolment is not None else Access.NONE
