"""The people of an installation: taken in, renamed, given a role, deactivated, listed.

Nobody is deleted, and once there was an active admin there always is one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.credentials import email_problem, name_problem
from app.accounts.models import Link, Role, SignIn, User
from app.accounts.service.admins import require_another_admin
from app.accounts.service.links import expire_links
from app.accounts.service.passwords import new_password_hash, password_matches, renew_hash
from app.accounts.service.sign_ins import end_all_sign_ins
from app.audit import record_deed
from app.errors import Conflict, Invalid, NotFound
from app.live.announcing import announce
from app.wording import gettext as _
from app.wording import mark as N_

EMAIL_TAKEN = N_("There is an account with this email already. Sign in with it instead.")


@dataclass(frozen=True)
class ListedPerson:
    """A person as lists show them. `last_seen_at` is of the browsers in which they are signed in now."""

    id: int
    name: str
    email: str
    role: Role
    is_active: bool
    created_at: datetime
    last_seen_at: datetime | None


def create_user(
    session: Session, *, email: str, name: str, role: Role, password: str, now: datetime, by_id: int | None = None
) -> User:
    """Take a person in. Raises Invalid for what cannot be an email, name or password, Conflict for a taken email.

    `by_id` is who did it; None: they themselves by a link, or the command line.
    """
    email = checked_email(email)
    password_hash = new_password_hash(password, email=email)
    user = User(email=email, name=checked_name(name), role=role, password_hash=password_hash, created_at=now)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError as error:
        raise Conflict(_(EMAIL_TAKEN)) from error
    _record(session, "user.created", user, by_id=by_id, now=now, role=role)
    return user


def checked_email(email: str) -> str:
    """The email without stray spaces; raises Invalid for what cannot be one."""
    email = email.strip()
    if problem := email_problem(email):
        raise Invalid(problem)
    return email


def checked_name(name: str) -> str:
    """The name on one line without stray spaces; raises Invalid for what cannot be one."""
    name = " ".join(name.split())
    if problem := name_problem(name):
        raise Invalid(problem)
    return name


def get_user(session: Session, user_id: int) -> User:
    """A person by number; raises NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound(_("There is nobody with this number here."))
    return user


def get_user_by_email(session: Session, email: str) -> User:
    """A person by email, however it is capitalised; raises NotFound."""
    user = find_user_by_email(session, email)
    if user is None:
        raise NotFound(_("Nobody here has the email %(email)s.", email=email))
    return user


def find_user_by_email(session: Session, email: str) -> User | None:
    """A person by email, however it is capitalised, or None."""
    return session.scalars(select(User).where(func.lower(User.email) == func.lower(email.strip()))).one_or_none()


def find_by_password(session: Session, *, email: str, password: str) -> User | None:
    """The active person with this email and password, or None; it takes the same time whatever was wrong."""
    user = find_user_by_email(session, email)
    matches = password_matches(None if user is None else user.password_hash, password)
    if user is None or not matches or not user.is_active:
        return None
    renew_hash(user, password)
    return user


def rename(session: Session, *, user: User, name: str, by_id: int | None, now: datetime) -> None:
    """Call a person by another name; raises Invalid for what cannot be one."""
    before, after = user.name, checked_name(name)
    if after != before:
        user.name = after
        _record(session, "user.renamed", user, by_id=by_id, now=now, before=before, after=after)


def set_role(session: Session, *, user: User, role: Role, by_id: int | None, now: datetime) -> None:
    """Give a person another role, at once. Raises Conflict for one's own and for the last admin's.

    With a lesser one, unused links that they made stop working: those might let in somebody with more.
    """
    if role is user.role:
        return
    if user.id == by_id:
        raise Conflict(_("You cannot change your own role. Ask another admin to do it."))
    if user.is_admin:
        require_another_admin(session, than=user)
    before, user.role = user.role, role
    announce(session, "person", user.id)
    if role.level < before.level:
        expire_links(session, Link.created_by_id == user.id, now=now)
    _record(session, "user.role_changed", user, by_id=by_id, now=now, before=before, after=role)


def deactivate_user(session: Session, *, user: User, by_id: int | None, now: datetime) -> None:
    """Shut a person out at once: sign-ins end, links for them and unused invitations by them stop working.

    What they did stays theirs. Raises Conflict for oneself and for the last admin.
    """
    if not user.is_active:
        return
    if user.id == by_id:
        raise Conflict(_("You cannot deactivate yourself. Ask another admin to do it."))
    if user.is_admin:
        require_another_admin(session, than=user)
    user.deactivated_at = now
    end_all_sign_ins(session, user_id=user.id)
    expire_links(session, or_(Link.user_id == user.id, Link.created_by_id == user.id), now=now)
    _record(session, "user.deactivated", user, by_id=by_id, now=now)


def reactivate_user(session: Session, *, user: User, by_id: int | None, now: datetime) -> None:
    """Let a person sign in again, with the password and role they had. Raises Conflict for somebody forgotten."""
    if user.forgotten_at is not None:
        raise Conflict(_("This person was forgotten on request: nothing of their account is left. Invite them anew."))
    if not user.is_active:
        user.deactivated_at = None
        _record(session, "user.reactivated", user, by_id=by_id, now=now)


def list_people(session: Session, *, search: str = "", limit: int | None = None, offset: int = 0) -> list[ListedPerson]:
    """People by name, the active first; every word of `search` occurs in the name or email."""
    last_seen = select(func.max(SignIn.last_seen_at)).where(SignIn.user_id == User.id).scalar_subquery()
    rows = session.execute(
        select(User, last_seen)
        .where(*_found_by(search))
        .order_by(User.deactivated_at.is_not(None), func.lower(User.name), User.id)
        .limit(limit)
        .offset(offset)
    )
    return [_listed(user, last_seen_at) for user, last_seen_at in rows]


def count_people(session: Session, *, search: str = "") -> int:
    """How many `list_people` finds in all."""
    return session.scalars(select(func.count()).select_from(User).where(*_found_by(search))).one()


def _listed(user: User, last_seen_at: datetime | None) -> ListedPerson:
    return ListedPerson(
        id=user.id,
        name=user.name,
        email=user.email,
        role=user.role,
        is_active=user.is_active,
        created_at=user.created_at,
        last_seen_at=last_seen_at,
    )


def _found_by(search: str) -> list[ColumnElement[bool]]:
    return [
        or_(User.name.icontains(word, autoescape=True), User.email.icontains(word, autoescape=True))
        for word in search.split()
    ]


def _record(session: Session, action: str, user: User, *, by_id: int | None, now: datetime, **details: Any) -> None:
    session.flush()
    record_deed(session, action=action, subject=user, subject_id=user.id, actor_id=by_id, now=now, **details)
