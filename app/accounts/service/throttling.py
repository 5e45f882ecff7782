"""Slowing down whoever guesses passwords: failures are counted per email and per network address.

A few failures cost nothing. From then on each doubles the wait before the next attempt, up to a quarter of
an hour; attempts during the wait are refused unseen and do not lengthen it.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.accounts.models import SignInAttempt
from app.errors import TooManyRequests
from app.wording import gettext as _
from app.wording import ngettext

REMEMBERED = timedelta(hours=6)
"""How long a failure counts."""

SHORTEST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=15)
FREE_PER_EMAIL = 5
FREE_PER_ADDRESS = 40
"""More than per email: a whole office may share one address."""


@dataclass(frozen=True)
class Subject:
    """What failures are counted under, and how many cost nothing."""

    key: str
    free: int


def subjects(*, email: str, address: str) -> list[Subject]:
    """Under which a failure to sign in counts."""
    return [_of_email(email), Subject(f"address:{_network(address)}", FREE_PER_ADDRESS)]


def require_patience(session: Session, *, email: str, address: str, now: datetime) -> None:
    """Raise TooManyRequests while an email or address has to wait, or has another attempt under way."""
    email_key = _of_email(email).key
    if not session.scalars(select(func.pg_try_advisory_xact_lock(func.hashtextextended(email_key, 0)))).one():
        raise TooManyRequests(_("Another attempt with this email is under way. Try again in a moment."))
    wait = max(wait_left(session, subject, now=now) for subject in subjects(email=email, address=address))
    if wait > timedelta():
        raise TooManyRequests(
            _(
                "Too many attempts did not work. Wait %(spoken)s and try again. If you have forgotten "
                "your password, ask an admin for a link to choose a new one.",
                spoken=_spoken(wait),
            )
        )


def wait_left(session: Session, subject: Subject, *, now: datetime) -> timedelta:
    """How long until the next attempt is let through; zero or less: now."""
    failures, latest = session.execute(
        select(func.count(), func.max(SignInAttempt.at)).where(
            SignInAttempt.subject == subject.key, SignInAttempt.at > now - REMEMBERED
        )
    ).one()
    if failures == 0:
        return timedelta()
    return latest + wait_after(failures, free=subject.free) - now


def wait_after(failures: int, *, free: int) -> timedelta:
    """The wait after this many failures: none while they are free, then doubling from the shortest to the longest."""
    if failures < free:
        return timedelta()
    return min(SHORTEST_WAIT * (1 << min(failures - free, 16)), LONGEST_WAIT)


def record_failure(session: Session, *, email: str, address: str, now: datetime) -> None:
    """Count a failed attempt, and forget those too old to count."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.at < now - REMEMBERED))
    session.add_all(SignInAttempt(subject=subject.key, at=now) for subject in subjects(email=email, address=address))
    session.flush()


def forget_failures(session: Session, *, email: str) -> None:
    """Start counting anew for an email whose owner got in. Its address keeps its count: guessers have accounts too."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.subject == _of_email(email).key))


def email_subject(email: str) -> str:
    """What failures with this email are counted under."""
    return f"email:{email.strip().lower()[:300]}"


def _of_email(email: str) -> Subject:
    return Subject(email_subject(email), FREE_PER_EMAIL)


def _network(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: whoever has one of those has all of it."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _spoken(wait: timedelta) -> str:
    seconds = max(1, round(wait.total_seconds()))
    if seconds < 60:
        return ngettext("%(num)s second", "%(num)s seconds", seconds)
    minutes = -(-seconds // 60)
    return ngettext("%(num)s minute", "%(num)s minutes", minutes)
