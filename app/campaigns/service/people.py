"""Who takes part in a campaign: enrolled at once, or by an invitation that enrols whoever accepts it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.credentials import email_problem
from app.accounts.models import Link, Role, User
from app.accounts.service.links import FreshLink, create_invitation
from app.accounts.service.people import find_user_by_email, get_user
from app.accounts.service.sign_ins import Person
from app.audit import record_deed
from app.campaigns.access import LEVELS, ceiling, find_enrolment
from app.campaigns.models import Access, Campaign, Enrolment, InvitedEnrolment
from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.live.announcing import announce
from app.wording import gettext as _


@dataclass(frozen=True)
class Invitation:
    """An invitation just made: the only time that its link is known."""

    email: str
    fresh: FreshLink


@dataclass(frozen=True)
class PendingInvitation:
    """An invitation to a campaign that nobody has accepted yet."""

    link_id: int
    email: str
    role: Role
    judges: bool
    access: Access
    expires_at: datetime


def enrol_person(
    session: Session,
    *,
    campaign: Campaign,
    email: str,
    judges: bool,
    access: Access = Access.NONE,
    by_id: int | None,
    now: datetime,
) -> Enrolment:
    """Give an existing person a part in a campaign, or change the part they have.

    Raises NotFound for an unknown email, Conflict for a deactivated person, Invalid for a part that is no part or
    for more access than the person's role bears.
    """
    user = find_user_by_email(session, email)
    if user is None:
        raise NotFound(_("Nobody here has the email %(email)s. Invite them by a link instead.", email=email.strip()))
    if not user.is_active:
        raise Conflict(_("%(name)s is deactivated. Ask an admin to reactivate them.", name=user.name))
    return _set_part(session, campaign=campaign, user=user, judges=judges, access=access, by_id=by_id, now=now)


def change_enrolment(
    session: Session,
    *,
    campaign: Campaign,
    user_id: int,
    judges: bool,
    access: Access,
    by_id: int | None,
    now: datetime,
) -> Enrolment:
    """Change what an enrolled person does and may see; raises NotFound, and Invalid as `enrol_person` does."""
    enrolment = _get_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    return _set_part(
        session, campaign=campaign, user=enrolment.user, judges=judges, access=access, by_id=by_id, now=now
    )


def remove_enrolment(session: Session, *, campaign: Campaign, user_id: int, by_id: int | None, now: datetime) -> User:
    """End a person's part in a campaign; what they judged stays and counts. Raises NotFound."""
    enrolment = _get_enrolment(session, campaign_id=campaign.id, user_id=user_id)
    user = enrolment.user
    session.delete(enrolment)
    session.flush()
    announce(session, "person", user_id)
    _record(session, campaign, "person_removed", by_id=by_id, now=now, user_id=user_id)
    return user


def invite_person(
    session: Session,
    *,
    campaign: Campaign,
    email: str,
    judges: bool,
    access: Access = Access.NONE,
    by: Person,
    now: datetime,
) -> Invitation:
    """A one-time link that makes somebody new a member and enrols them here; their role is the least that serves.

    Raises Conflict for a known email, and Forbidden where a manager would make another manager: admins do that.
    """
    email = email.strip()
    if problem := email_problem(email):
        raise Invalid(problem)
    if find_user_by_email(session, email) is not None:
        raise Conflict(_("%(email)s has an account here already. Enrol them instead.", email=email))
    _require_some_part(judges=judges, access=access)
    role = _least_role(access)
    if role is Role.MANAGER and not by.is_admin:
        raise Forbidden(_("Only admins may invite new managers. Invite them to judge, and ask an admin for the rest."))
    fresh = create_invitation(session, role=role, email=email, created_by_id=by.id, now=now)
    session.add(InvitedEnrolment(link_id=fresh.link.id, campaign_id=campaign.id, judges=judges, access=access))
    session.flush()
    _record(session, campaign, "person_invited", by_id=by.id, now=now, email=email, judges=judges, access=access)
    return Invitation(email=email, fresh=fresh)


def take_up_invited_enrolments(session: Session, *, link_id: int, user_id: int, now: datetime) -> list[Enrolment]:
    """Enrol somebody wherever their invitation said, and return what is new; called in the transaction that consumes
    the link. A part that they have already only grows.
    """
    user = get_user(session, user_id)
    invited = session.scalars(
        select(InvitedEnrolment).where(InvitedEnrolment.link_id == link_id).order_by(InvitedEnrolment.campaign_id)
    )
    new = []
    for each in invited:
        before = find_enrolment(session, campaign_id=each.campaign_id, user_id=user_id)
        had = (before.judges, before.access) if before is not None else (False, Access.NONE)
        judges = each.judges or had[0]
        access = max(had[1], min(each.access, ceiling(user.role), key=_level), key=_level)
        if (judges, access) != had:
            campaign = session.get_one(Campaign, each.campaign_id)
            new.append(
                _set_part(session, campaign=campaign, user=user, judges=judges, access=access, by_id=user_id, now=now)
            )
    return new


def list_enrolments(session: Session, *, campaign_id: int) -> list[Enrolment]:
    """Everybody who takes part, by name, each with their user."""
    query = select(Enrolment).join(User).where(Enrolment.campaign_id == campaign_id)
    return list(session.scalars(query.order_by(func.lower(User.name), User.id)))


def list_pending_invitations(session: Session, *, campaign_id: int, now: datetime) -> list[PendingInvitation]:
    """Invitations to this campaign that can still be accepted, newest first."""
    rows = session.execute(
        select(InvitedEnrolment, Link)
        .join(Link, Link.id == InvitedEnrolment.link_id)
        .where(InvitedEnrolment.campaign_id == campaign_id, Link.consumed_at.is_(None), Link.expires_at > now)
        .order_by(Link.id.desc())
    )
    return [
        PendingInvitation(
            link_id=link.id,
            email=link.email or "",
            role=link.role or Role.ANNOTATOR,
            judges=invited.judges,
            access=invited.access,
            expires_at=link.expires_at,
        )
        for invited, link in rows
    ]


def _set_part(
    session: Session,
    *,
    campaign: Campaign,
    user: User,
    judges: bool,
    access: Access,
    by_id: int | None,
    now: datetime,
) -> Enrolment:
    _require_some_part(judges=judges, access=access)
    _require_role(user, access)
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=user.id)
    if enrolment is None:
        enrolment = Enrolment(campaign_id=campaign.id, user_id=user.id, judges=judges, access=access, created_at=now)
        session.add(enrolment)
    if judges and not enrolment.judges:
        enrolment.left_at = None
    enrolment.judges, enrolment.access = judges, access
    session.flush()
    announce(session, "person", user.id)
    _record(session, campaign, "person_enrolled", by_id=by_id, now=now, user_id=user.id, judges=judges, access=access)
    return enrolment


def _require_some_part(*, judges: bool, access: Access) -> None:
    if not judges and access is Access.NONE:
        raise Invalid(_("Let them judge, give them access, or both. To take both away, remove them."))


def _require_role(user: User, access: Access) -> None:
    if LEVELS[access] > LEVELS[ceiling(user.role)]:
        needed = _least_role(access)
        raise Invalid(
            _(
                "%(name)s is signed up as %(role)s. Ask an admin for the role of %(needed)s first.",
                name=user.name,
                role=user.role,
                needed=needed,
            )
        )


def _level(access: Access) -> int:
    return LEVELS[access]


def _least_role(access: Access) -> Role:
    return {Access.NONE: Role.ANNOTATOR, Access.RESEARCH: Role.RESEARCHER, Access.MANAGE: Role.MANAGER}[access]


def _get_enrolment(session: Session, *, campaign_id: int, user_id: int) -> Enrolment:
    enrolment = find_enrolment(session, campaign_id=campaign_id, user_id=user_id)
    if enrolment is None:
        raise NotFound(_("This person takes no part in this campaign any more."))
    return enrolment


def _record(
    session: Session, campaign: Campaign, verb: str, *, by_id: int | None, now: datetime, **details: object
) -> None:
    record_deed(
        session,
        action=f"campaign.{verb}",
        subject=campaign,
        subject_id=campaign.id,
        actor_id=by_id,
        now=now,
        **details,
    )
