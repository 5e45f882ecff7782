"""Consuming one-time links: becoming the first admin, accepting an invitation as somebody new or as oneself, choosing
a new password.

Each locks its link, so that of two who send the same form one gets in and the other hears that it was used.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.orm import Session

from app.accounts.models import Link, Role, User
from app.accounts.service.admins import has_active_admin, take_turns_for_first_admin
from app.accounts.service.links import GONE
from app.accounts.service.passwords import set_password
from app.accounts.service.people import create_user, get_user, set_role
from app.accounts.service.throttling import forget_failures
from app.audit import record_deed
from app.errors import Conflict, NotFound
from app.wording import gettext as _


class OnJoined(Protocol):
    """What a higher domain does when an invitation is accepted, in the same transaction.

    The web app is wired with a list of these (`app.state.on_joined`): campaigns enrol the newcomer.
    """

    def __call__(self, session: Session, *, link_id: int, user_id: int, now: datetime) -> Sequence[object]:
        """Take up what the invitation promised to this person; returns what is new to them."""


def become_first_admin(
    session: Session,
    *,
    link: Link,
    email: str,
    name: str,
    password: str,
    now: datetime,
    on_joined: Sequence[OnJoined] = (),
) -> User:
    """Make the holder of a first-admin link the admin; raises NotFound where somebody else just became one."""
    take_turns_for_first_admin(session)
    if has_active_admin(session):
        raise NotFound(_(GONE))
    return _take_in(
        session, link=link, role=Role.ADMIN, email=email, name=name, password=password, now=now, on_joined=on_joined
    )


def accept_invitation(
    session: Session,
    *,
    link: Link,
    email: str,
    name: str,
    password: str,
    now: datetime,
    on_joined: Sequence[OnJoined] = (),
) -> User:
    """Take in the holder of an invitation, with its role and whatever `on_joined` adds."""
    role = link.role or Role.ANNOTATOR
    return _take_in(
        session, link=link, role=role, email=email, name=name, password=password, now=now, on_joined=on_joined
    )


def take_up_invitation(
    session: Session, *, link: Link, user_id: int, now: datetime, on_joined: Sequence[OnJoined] = ()
) -> None:
    """Give somebody who has an account what an invitation promises beyond what they have; nothing is taken away.

    Raises Conflict where that is nothing, and leaves the link to somebody else.
    """
    user = get_user(session, user_id)
    promised = link.role or Role.ANNOTATOR
    is_raised = promised.level > user.role.level
    if is_raised:
        set_role(session, user=user, role=promised, by_id=link.created_by_id, now=now)
    _consume(session, link, by=user, now=now)
    taken_up = [each for take_up in on_joined for each in take_up(session, link_id=link.id, user_id=user.id, now=now)]
    if not (is_raised or taken_up):
        raise Conflict(_("You have all that this invitation gives. Pass it on to whom it is meant for."))


def _take_in(
    session: Session,
    *,
    link: Link,
    role: Role,
    email: str,
    name: str,
    password: str,
    now: datetime,
    on_joined: Sequence[OnJoined],
) -> User:
    user = create_user(session, email=email, name=name, role=role, password=password, now=now)
    _consume(session, link, by=user, now=now)
    for take_up in on_joined:
        take_up(session, link_id=link.id, user_id=user.id, now=now)
    return user


def reset_password(session: Session, *, link: Link, password: str, now: datetime) -> User:
    """Give the person of a reset link the password they chose; every browser of theirs is signed out."""
    assert link.user_id is not None, "a check constraint of links"
    user = get_user(session, link.user_id)
    if not user.is_active:
        raise NotFound(_(GONE))
    _consume(session, link, by=user, now=now)
    set_password(session, user=user, password=password, by_id=user.id, now=now)
    forget_failures(session, email=user.email)
    return user


def _consume(session: Session, link: Link, *, by: User, now: datetime) -> None:
    link.consumed_at, link.consumed_by_id = now, by.id
    session.flush()
    record_deed(session, action="link.consumed", subject=link, subject_id=link.id, actor_id=by.id, now=now)
