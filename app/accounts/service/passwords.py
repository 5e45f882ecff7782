"""Setting and checking passwords. The database holds argon2id hashes and nothing to turn them back."""

import secrets
import threading
import unicodedata
from datetime import datetime
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.orm import Session

from app.accounts.credentials import MOST_PASSWORD, password_problem
from app.accounts.models import Link, User
from app.accounts.service.links import expire_links
from app.accounts.service.sign_ins import end_all_sign_ins
from app.audit import record_deed
from app.errors import Forbidden, Invalid
from app.wording import gettext as _

_hasher = PasswordHasher()
_room = threading.BoundedSemaphore(4)
"""A hash takes 64 MiB; a rush of sign-ins waits here rather than fill the memory."""


def change_password(
    session: Session, *, user: User, old_password: str, new_password: str, kept_token: str | None, now: datetime
) -> None:
    """A person's new password, on proof of the old one. Their other browsers are signed out.

    `kept_token` is the sign-in that stays. Raises Forbidden for a wrong old password, Invalid for a poor new one.
    """
    if not password_matches(user.password_hash, old_password):
        raise Forbidden(_("This is not your present password."))
    set_password(session, user=user, password=new_password, by_id=user.id, kept_token=kept_token, now=now)


def set_password(
    session: Session, *, user: User, password: str, by_id: int | None, now: datetime, kept_token: str | None = None
) -> None:
    """A new password, whoever asks. Ends the person's sign-ins but `kept_token`, and their unused reset links."""
    user.password_hash = new_password_hash(password, email=user.email)
    end_all_sign_ins(session, user_id=user.id, except_token=kept_token)
    expire_links(session, Link.user_id == user.id, now=now)
    session.flush()
    record_deed(session, action="user.password_set", subject=user, subject_id=user.id, actor_id=by_id, now=now)


def new_password_hash(password: str, *, email: str) -> str:
    """The hash of a password that is good enough for the person with this email; raises Invalid for a poor one."""
    if problem := password_problem(password, email=email):
        raise Invalid(problem)
    return hash_password(password)


def hash_password(password: str) -> str:
    """The argon2id hash to store, of the text however a keyboard composes its accents."""
    with _room:
        return _hasher.hash(_canonical(password))


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether the password is the one hashed. Where there is no real hash it takes as long to say no."""
    is_real = password_hash is not None and password_hash.startswith("$argon2")
    compared = password_hash if is_real and password_hash is not None else _nobodys_hash()
    with _room:
        try:
            return _hasher.verify(compared, _canonical(password)) and is_real
        except (VerificationError, InvalidHashError):
            return False


def renew_hash(user: User, password: str) -> None:
    """Hash a password anew that was just found right, where today's parameters are stronger than its hash's."""
    if _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = hash_password(password)


@lru_cache
def _nobodys_hash() -> str:
    """A hash that no password has, to spend the same time on emails that nobody has."""
    return _hasher.hash(secrets.token_urlsafe(32))


def _canonical(password: str) -> str:
    return unicodedata.normalize("NFC", password[: MOST_PASSWORD + 1])
