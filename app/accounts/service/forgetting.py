"""Erasing who somebody was, on their request: nothing of their account stays but a number.

What they judged is erased by the domains above, in the same transaction: see `app.datasets.service.forgetting`.
"""

import json
from datetime import datetime

from sqlalchemy import String, cast, delete, func, or_, select, update
from sqlalchemy.orm import Session

from app.accounts.models import Link, SignInAttempt, User
from app.accounts.service.people import deactivate_user
from app.accounts.service.throttling import email_subject
from app.audit import AuditEntry, record_deed
from app.wording import mark as N_

NAME = N_("Forgotten person %(id)s")
UNUSABLE = "!"
"""A password hash that no password has."""
ERASED = "(erased)"


def erase_account(session: Session, *, user: User, by_id: int | None, now: datetime) -> None:
    """Shut a person out for good and erase name, email and password, wherever accounts and the audit log hold them.

    Raises Conflict for oneself and for the last admin, as deactivating does.
    """
    deactivate_user(session, user=user, by_id=by_id, now=now)
    _erase_from_links(session, user)
    _erase_from_audit(session, user)
    session.execute(delete(SignInAttempt).where(SignInAttempt.subject == email_subject(user.email)))
    user.name = NAME % {"id": user.id}
    user.email = f"forgotten-{user.id}@invalid"
    user.password_hash = UNUSABLE
    user.forgotten_at = now
    session.flush()
    record_deed(session, action="user.forgotten", subject=user, subject_id=user.id, actor_id=by_id, now=now)


def _erase_from_links(session: Session, user: User) -> None:
    theirs = or_(func.lower(Link.email) == user.email.lower(), Link.consumed_by_id == user.id)
    session.execute(update(Link).where(theirs).values(email=None))


def _erase_from_audit(session: Session, user: User) -> None:
    """The deeds stay, and lose the values that name the person: the one edit that the log knows."""
    words = {user.email, user.name, *_former_names(session, user)}
    entries = select(AuditEntry).where(
        or_(*(cast(AuditEntry.details, String).icontains(_in_json(word), autoescape=True) for word in words))
    )
    for entry in session.scalars(entries):
        entry.details = {
            name: ERASED if isinstance(value, str) and value.casefold() in _folded(words) else value
            for name, value in entry.details.items()
        }


def _former_names(session: Session, user: User) -> set[str]:
    renamed = select(AuditEntry.details).where(
        AuditEntry.action == "user.renamed", AuditEntry.subject_id == str(user.id)
    )
    return {str(value) for details in session.scalars(renamed) for value in details.values()}


def _in_json(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)[1:-1]


def _folded(words: set[str]) -> set[str]:
    return {word.casefold() for word in words}
