"""Enrolling people, inviting new ones, and what a role bears."""

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.accounts.service.sign_ins import Person
from app.campaigns.access import campaigns_with_access, effective_access, find_enrolment
from app.campaigns.models import Access
from app.campaigns.service import (
    enrol_person,
    invite_person,
    list_campaigns,
    list_enrolments,
    list_pending_invitations,
    remove_enrolment,
    take_up_invited_enrolments,
)
from app.errors import Conflict, Forbidden, Invalid, NotFound
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign


def person_of(user: User) -> Person:
    return Person(id=user.id, name=user.name, email=user.email, role=user.role)


def test_enrolling_twice_changes_the_part(session: Session) -> None:
    campaign, researcher = make_campaign(session), make_user(session, Role.RESEARCHER)
    for judges, access in ((True, Access.NONE), (False, Access.RESEARCH)):
        email = researcher.email.upper()
        enrol_person(session, campaign=campaign, email=email, judges=judges, access=access, by_id=None, now=NOW)
    (enrolment,) = list_enrolments(session, campaign_id=campaign.id)
    assert (enrolment.user_id, enrolment.judges, enrolment.access) == (researcher.id, False, Access.RESEARCH)


@pytest.mark.parametrize(
    ("role", "access"),
    [(Role.ANNOTATOR, Access.RESEARCH), (Role.ANNOTATOR, Access.MANAGE), (Role.RESEARCHER, Access.MANAGE)],
)
def test_more_access_than_the_role_bears_is_refused(session: Session, role: Role, access: Access) -> None:
    campaign, user = make_campaign(session), make_user(session, role)
    with pytest.raises(Invalid, match=f"signed up as {role}"):
        enrol_person(session, campaign=campaign, email=user.email, judges=True, access=access, by_id=None, now=NOW)


def test_whoever_loses_a_role_loses_the_access_with_it(session: Session) -> None:
    campaign, user = make_campaign(session), make_user(session, Role.MANAGER)
    enrol(session, user, campaign, access=Access.MANAGE)
    user.role = Role.RESEARCHER
    person = person_of(user)
    assert effective_access(session, campaign_id=campaign.id, person=person) is Access.RESEARCH
    assert campaigns_with_access(session, person=person, least=Access.MANAGE) == []
    assert campaigns_with_access(session, person=person, least=Access.RESEARCH) == [campaign]
    assert [each.access for each in list_campaigns(session, person=person)] == [Access.RESEARCH]


def test_strangers_and_deactivated_people_are_not_enrolled(session: Session) -> None:
    campaign, user = make_campaign(session), make_user(session)
    with pytest.raises(NotFound, match="Invite them by a link"):
        enrol_person(session, campaign=campaign, email="who@example.org", judges=True, by_id=None, now=NOW)
    user.deactivated_at = NOW
    with pytest.raises(Conflict, match="deactivated"):
        enrol_person(session, campaign=campaign, email=user.email, judges=True, by_id=None, now=NOW)
    with pytest.raises(Invalid, match="To take both away, remove them"):
        enrol_person(session, campaign=campaign, email=make_user(session).email, judges=False, by_id=None, now=NOW)


def test_a_removed_person_takes_no_part_any_more(session: Session) -> None:
    campaign, user = make_campaign(session), make_user(session)
    enrol(session, user, campaign)
    remove_enrolment(session, campaign=campaign, user_id=user.id, by_id=None, now=NOW)
    assert find_enrolment(session, campaign_id=campaign.id, user_id=user.id) is None
    with pytest.raises(NotFound):
        remove_enrolment(session, campaign=campaign, user_id=user.id, by_id=None, now=NOW)


def test_whoever_accepts_an_invitation_is_enrolled_as_it_said(session: Session) -> None:
    campaign, manager = make_campaign(session), person_of(make_user(session, Role.MANAGER))
    invitation = invite_person(
        session, campaign=campaign, email=" new@example.org ", judges=True, access=Access.RESEARCH, by=manager, now=NOW
    )
    link = invitation.fresh.link
    assert (link.role, link.email) == (Role.RESEARCHER, "new@example.org")
    (pending,) = list_pending_invitations(session, campaign_id=campaign.id, now=NOW)
    assert (pending.email, pending.judges, pending.access) == ("new@example.org", True, Access.RESEARCH)
    newcomer = make_user(session, Role.RESEARCHER)
    (enrolment,) = take_up_invited_enrolments(session, link_id=link.id, user_id=newcomer.id, now=NOW)
    assert (enrolment.judges, enrolment.access) == (True, Access.RESEARCH)
    assert take_up_invited_enrolments(session, link_id=link.id, user_id=newcomer.id, now=NOW) == []
    assert list_pending_invitations(session, campaign_id=campaign.id, now=link.expires_at) == []


def test_managers_invite_no_managers_and_nobody_invites_a_member_anew(session: Session) -> None:
    campaign = make_campaign(session)
    manager, admin = person_of(make_user(session, Role.MANAGER)), person_of(make_user(session, Role.ADMIN))
    invited = {"campaign": campaign, "email": "new@example.org", "judges": False, "access": Access.MANAGE, "now": NOW}
    with pytest.raises(Forbidden, match="Only admins may invite new managers"):
        invite_person(session, by=manager, **invited)
    assert invite_person(session, by=admin, **invited).fresh.link.role is Role.MANAGER
    with pytest.raises(Conflict, match="Enrol them instead"):
        invite_person(session, by=admin, **{**invited, "email": manager.email})


def test_everyone_lists_the_campaigns_they_have_a_part_in(session: Session) -> None:
    judged, other = make_campaign(session), make_campaign(session)
    annotator, admin = make_user(session), make_user(session, Role.ADMIN)
    enrol(session, annotator, judged)
    (mine,) = list_campaigns(session, person=person_of(annotator))
    assert (mine.campaign.id, mine.judges, mine.is_readable) == (judged.id, True, False)
    everything = list_campaigns(session, person=person_of(admin))
    assert [(each.campaign.id, each.judges, each.access) for each in everything] == [
        (other.id, False, Access.MANAGE),
        (judged.id, False, Access.MANAGE),
    ]
