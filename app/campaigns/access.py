"""Turning a campaign's id in a URL into the campaign, if this person may touch it.

No other way to load one in a route. Where a person may not even know of a campaign the answer is NotFound.
"""

from typing import Annotated

from fastapi import Depends
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.accounts.models import Role
from app.accounts.service.sign_ins import Person
from app.campaigns.models import Access, Campaign, Enrolment
from app.database import DbSession
from app.errors import Forbidden, NotFound
from app.wording import gettext as _

LEVELS = {Access.NONE: 0, Access.RESEARCH: 1, Access.MANAGE: 2}


def ceiling(role: Role) -> Access:
    """The most that a person of this role may be granted; whoever loses the role loses the access with it."""
    most = {Role.ANNOTATOR: Access.NONE, Role.RESEARCHER: Access.RESEARCH}
    return most.get(role, Access.MANAGE)


def within(access: Access, role: Role) -> Access:
    """The part of a granted access that this role bears."""
    return min(access, ceiling(role), key=LEVELS.__getitem__)


def find_enrolment(session: Session, *, campaign_id: int, user_id: int) -> Enrolment | None:
    """A person's part in a campaign, if they have one."""
    return session.get(Enrolment, (campaign_id, user_id))


def effective_access(session: Session, *, campaign_id: int, person: Person) -> Access:
    """What a person may see and do in a campaign beside judging; admins may everything everywhere."""
    if person.is_admin:
        return Access.MANAGE
    enrolment = find_enrolment(session, campaign_id=campaign_id, user_id=person.id)
    return within(enrolment.access, person.role) if enrolment is not None else Access.NONE


def _require(session: Session, *, campaign_id: int, person: Person, least: Access) -> Campaign:
    campaign = session.get(Campaign, campaign_id)
    enrolled = find_enrolment(session, campaign_id=campaign_id, user_id=person.id) is not None
    if campaign is None or not (enrolled or person.is_admin):
        raise NotFound(_("There is no such campaign, or you have no part in it. Ask its manager to enrol you."))
    if LEVELS[effective_access(session, campaign_id=campaign_id, person=person)] < LEVELS[least]:
        raise Forbidden(_("Your part in this campaign does not include this. Ask its manager."))
    return campaign


@declares(Needs.JUDGES)
def judged_campaign(campaign_id: int, person: CurrentPerson, session: DbSession) -> Campaign:
    """A campaign in which this person judges."""
    enrolment = find_enrolment(session, campaign_id=campaign_id, user_id=person.id)
    if enrolment is None or not enrolment.judges:
        raise NotFound(_("There is no such campaign, or you are not enrolled in it as an annotator."))
    return session.get_one(Campaign, campaign_id)


@declares(Needs.JUDGES)
def once_judged_campaign(campaign_id: int, person: CurrentPerson, session: DbSession) -> Campaign:
    """A campaign in which this person judges, or did until they left by themselves."""
    enrolment = find_enrolment(session, campaign_id=campaign_id, user_id=person.id)
    if enrolment is None or not (enrolment.judges or enrolment.left_at is not None):
        raise NotFound(_("There is no such campaign, or you are not enrolled in it as an annotator."))
    return session.get_one(Campaign, campaign_id)


@declares(Needs.READS)
def readable_campaign(campaign_id: int, person: CurrentPerson, session: DbSession) -> Campaign:
    """A campaign whose data this person may see: researchers granted, managers, admins."""
    return _require(session, campaign_id=campaign_id, person=person, least=Access.RESEARCH)


@declares(Needs.MANAGES)
def managed_campaign(campaign_id: int, person: CurrentPerson, session: DbSession) -> Campaign:
    """A campaign that this person manages."""
    return _require(session, campaign_id=campaign_id, person=person, least=Access.MANAGE)


def campaigns_with_access(session: Session, *, person: Person, least: Access) -> list[Campaign]:
    """Every campaign in which a person has at least this access, newest first."""
    query = select(Campaign).order_by(Campaign.id.desc())
    if not person.is_admin:
        enough = [access for access in Access if LEVELS[within(access, person.role)] >= LEVELS[least]]
        query = query.join(Enrolment).where(Enrolment.user_id == person.id, Enrolment.access.in_(enough))
    return list(session.scalars(query))


JudgedCampaign = Annotated[Campaign, Depends(judged_campaign)]
OnceJudgedCampaign = Annotated[Campaign, Depends(once_judged_campaign)]
ReadableCampaign = Annotated[Campaign, Depends(readable_campaign)]
ManagedCampaign = Annotated[Campaign, Depends(managed_campaign)]
