"""Starting, finding and ending sign-ins. The cookie holds a random token; the database only its hash."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.accounts.models import Role, SignIn, User
from app.database import find_row
from app.live.announcing import announce

SEEN_EVERY = timedelta(minutes=5)
"""How stale `last_seen_at` may be, so that most requests write nothing."""


@dataclass(frozen=True)
class Person:
    """Whoever is signed in, as pages and services see them; outlives the transaction that found them."""

    id: int
    name: str
    email: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether this person may do everything."""
        return self.role is Role.ADMIN

    def is_at_least(self, role: Role) -> bool:
        """Whether this person's role is `role` or a higher one."""
        return self.role.level >= role.level


def start_sign_in(session: Session, *, user: User, user_agent: str, lasts: timedelta, now: datetime) -> str:
    """A fresh sign-in; returns the token for the cookie. A new token each time: no session fixation."""
    token = secrets.token_urlsafe(32)
    session.add(
        SignIn(
            token_sha256=token_sha256(token),
            user_id=user.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + lasts,
            user_agent=user_agent[:300],
        )
    )
    session.flush()
    return token


_WHO = """
    SELECT users.id, users.name, users.email, users.role, sign_ins.last_seen_at
    FROM sign_ins JOIN users ON users.id = sign_ins.user_id
    WHERE sign_ins.token_sha256 = %(token_sha256)s AND sign_ins.expires_at > %(now)s AND users.deactivated_at IS NULL
"""


def find_person(session: Session, *, token: str, lasts: timedelta, now: datetime) -> Person | None:
    """Who holds this token, or None: unknown, expired, or deactivated. Use renews it."""
    row = find_row(session, _WHO, {"token_sha256": token_sha256(token), "now": now})
    if row is None:
        return None
    if now - row.last_seen_at > SEEN_EVERY:
        renewal = update(SignIn).where(SignIn.token_sha256 == token_sha256(token))
        session.execute(renewal.values(last_seen_at=now, expires_at=now + lasts))
    return Person(id=row.id, name=row.name, email=row.email, role=Role(row.role))


def end_sign_in(session: Session, *, token: str) -> None:
    """Forget this browser."""
    ended = delete(SignIn).where(SignIn.token_sha256 == token_sha256(token)).returning(SignIn.user_id)
    if (user_id := session.scalar(ended)) is not None:
        announce(session, "person", user_id)


def end_all_sign_ins(session: Session, *, user_id: int, except_token: str | None = None) -> None:
    """Forget every browser of a person, perhaps but the one in use: after a new password or deactivation."""
    statement = delete(SignIn).where(SignIn.user_id == user_id)
    if except_token is not None:
        statement = statement.where(SignIn.token_sha256 != token_sha256(except_token))
    session.execute(statement)
    announce(session, "person", user_id)


def list_sign_ins(session: Session, *, user_id: int, now: datetime) -> list[SignIn]:
    """The browsers in which a person is signed in, the latest used first."""
    query = select(SignIn).where(SignIn.user_id == user_id, SignIn.expires_at > now)
    return list(session.scalars(query.order_by(SignIn.last_seen_at.desc(), SignIn.created_at.desc())))


def token_sha256(token: str) -> str:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
