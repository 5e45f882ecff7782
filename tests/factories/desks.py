"""An annotator at a desk: their requests on the services, one call each."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.comparisons.models import Assignment
from app.comparisons.service.desk import HeldAssignment, hold_assignment, hold_desk
from app.comparisons.service.judging import Recorded, Verdict, record_judgment, retract, skip
from app.comparisons.service.leasing import Lease, lease_next, renew
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol

LASTS = timedelta(minutes=30)


@dataclass
class Desk:
    """Somebody enrolled in a campaign. `now` is when they do what they do next."""

    session: Session
    campaign_id: int
    annotator_id: int
    now: datetime = NOW

    def lease(self) -> Lease | None:
        """Open the page: the comparison at the desk, or the next one."""
        hold_desk(self.session, annotator_id=self.annotator_id)
        return lease_next(
            self.session, campaign_id=self.campaign_id, annotator_id=self.annotator_id, lasts=LASTS, now=self.now
        )

    def take(self) -> Lease:
        """Open the page, where there is surely something to judge."""
        lease = self.lease()
        assert lease is not None
        return lease

    def hold(self, lease: Lease) -> HeldAssignment:
        """Begin a request about a lease."""
        return hold_assignment(self.session, assignment_id=lease.assignment_id, annotator_id=self.annotator_id)

    def judge(
        self, lease: Lease, ranking: str | None = "1>2", *, all_bad: bool = False, key: uuid.UUID | None = None
    ) -> Recorded:
        """Send a verdict."""
        verdict = Verdict(ranking=ranking, all_bad=all_bad)
        held = self.hold(lease)
        return record_judgment(self.session, assignment=held, verdict=verdict, key=key or uuid.uuid4(), now=self.now)

    def skip(self, lease: Lease, reason: str = "") -> None:
        """Pass on a comparison."""
        skip(self.session, assignment=self.hold(lease), reason=reason, now=self.now)

    def undo(self, lease: Lease, *, key: uuid.UUID | None = None) -> None:
        """Put a comparison back at the desk."""
        retract(self.session, assignment=self.hold(lease), key=key or uuid.uuid4(), lasts=LASTS, now=self.now)

    def renew(self, lease: Lease) -> None:
        """Give a sign of life."""
        renew(self.session, assignment=self.hold(lease), lasts=LASTS, now=self.now)

    def assignment(self, lease: Lease) -> Assignment:
        """The lease's row as it is now."""
        return self.session.get_one(Assignment, lease.assignment_id, populate_existing=True)


def make_desk(session: Session, campaign: Campaign) -> Desk:
    """A new annotator, enrolled in the campaign."""
    person = make_user(session)
    enrol(session, person, campaign)
    return Desk(session, campaign.id, person.id)
