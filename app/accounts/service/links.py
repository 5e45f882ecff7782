"""One-time links: made here, shown once, looked at by GET, consumed by POST (see `joining`).

The database keeps a hash of each token, so a link that was not copied when it was made is lost.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.accounts.models import Link, LinkPurpose, Role, User
from app.accounts.service.admins import has_active_admin, take_turns_for_first_admin
from app.accounts.service.sign_ins import token_sha256
from app.audit import record_deed
from app.errors import Conflict, NotFound
from app.wording import gettext as _
from app.wording import mark as N_

FIRST_ADMIN_LASTS = timedelta(days=7)
INVITATION_LASTS = timedelta(days=14)
PASSWORD_RESET_LASTS = timedelta(days=2)

GONE = N_(
    "This link does not open anything. It may have been used, replaced by a newer one, or run out, "
    "or a part of it may be missing. Ask whoever sent it for a new one."
)


@dataclass(frozen=True)
class FreshLink:
    """A link just made: the only time that its token is known."""

    link: Link
    token: str

    @property
    def path(self) -> str:
        """Where it opens, on this installation."""
        return link_path(self.token)


def link_path(token: str) -> str:
    """The path that opens a link; put the installation's address before it."""
    return f"/links/{token}"


def create_first_admin_link(session: Session, *, now: datetime) -> str:
    """The token of a link that makes its holder the first admin. Earlier ones stop working.

    Raises Conflict once there is an active admin: admins are then made by admins.
    """
    take_turns_for_first_admin(session)
    if has_active_admin(session):
        raise Conflict(_("There is an admin already. Ask them for an invitation, or for a new password."))
    expire_links(session, Link.purpose == LinkPurpose.FIRST_ADMIN, now=now)
    return _create(
        session, LinkPurpose.FIRST_ADMIN, role=Role.ADMIN, created_by_id=None, now=now, lasts=FIRST_ADMIN_LASTS
    ).token


def create_invitation(
    session: Session,
    *,
    role: Role,
    email: str | None,
    created_by_id: int | None,
    now: datetime,
    lasts: timedelta = INVITATION_LASTS,
) -> FreshLink:
    """A link by which one person joins with a role. `email` is filled in for them; they may change it."""
    return _create(
        session,
        LinkPurpose.INVITATION,
        role=role,
        email=email.strip() if email else None,
        created_by_id=created_by_id,
        now=now,
        lasts=lasts,
    )


def create_password_reset(
    session: Session, *, user: User, created_by_id: int | None, now: datetime, lasts: timedelta = PASSWORD_RESET_LASTS
) -> FreshLink:
    """A link by which a person chooses a new password. Earlier ones stop working; the old password still does.

    Raises Conflict for somebody who is deactivated.
    """
    if not user.is_active:
        raise Conflict(_("%(name)s is deactivated. Reactivate them first.", name=user.name))
    expire_links(session, Link.user_id == user.id, now=now)
    return _create(
        session, LinkPurpose.PASSWORD_RESET, user_id=user.id, created_by_id=created_by_id, now=now, lasts=lasts
    )


def find_usable_link(session: Session, *, token: str, now: datetime, lock: bool = False) -> Link | None:
    """The link with this token if it still opens something, else None.

    `lock` makes a second consumer wait and then find it used.
    """
    query = select(Link).where(Link.token_sha256 == token_sha256(token))
    if lock:
        query = query.with_for_update()
    link = session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if link is None or not link.is_usable(now):
        return None
    if link.purpose is LinkPurpose.FIRST_ADMIN and has_active_admin(session):
        return None
    return link


def get_usable_link(session: Session, *, token: str, now: datetime, lock: bool = False) -> Link:
    """The same; raises NotFound, with what to do, for a link that opens nothing."""
    link = find_usable_link(session, token=token, now=now, lock=lock)
    if link is None:
        raise NotFound(_(GONE))
    return link


def list_open_invitations(session: Session, *, now: datetime) -> list[tuple[Link, str | None]]:
    """Invitations nobody has used yet, newest first, each with the name of whoever made it."""
    rows = session.execute(
        select(Link, User.name)
        .outerjoin(User, User.id == Link.created_by_id)
        .where(Link.purpose == LinkPurpose.INVITATION, Link.consumed_at.is_(None), Link.expires_at > now)
        .order_by(Link.id.desc())
    )
    return [(link, name) for link, name in rows]


def withdraw_invitation(session: Session, *, link_id: int, by_id: int, now: datetime) -> None:
    """Make an unused invitation unusable; raises NotFound where there is none by this number."""
    link = session.get(Link, link_id)
    if link is None or link.purpose is not LinkPurpose.INVITATION:
        raise NotFound(_("There is no such invitation."))
    expire_links(session, Link.id == link_id, now=now)
    record_deed(session, action="link.withdrawn", subject=link, subject_id=link.id, actor_id=by_id, now=now)


def expire_links(session: Session, which: ColumnElement[bool], *, now: datetime) -> None:
    """Make those of these links unusable that were not used yet."""
    unused = update(Link).where(which, Link.consumed_at.is_(None), Link.expires_at > now)
    session.execute(unused.values(expires_at=now), execution_options={"synchronize_session": "fetch"})


def _create(
    session: Session,
    purpose: LinkPurpose,
    *,
    created_by_id: int | None,
    now: datetime,
    lasts: timedelta,
    role: Role | None = None,
    email: str | None = None,
    user_id: int | None = None,
) -> FreshLink:
    token = secrets.token_urlsafe(32)
    link = Link(
        token_sha256=token_sha256(token),
        purpose=purpose,
        role=role,
        email=email,
        user_id=user_id,
        created_by_id=created_by_id,
        created_at=now,
        expires_at=now + lasts,
    )
    session.add(link)
    session.flush()
    record_deed(
        session,
        action="link.created",
        subject=link,
        subject_id=link.id,
        actor_id=created_by_id,
        now=now,
        purpose=purpose,
        role=role,
        user_id=user_id,
    )
    return FreshLink(link, token)
