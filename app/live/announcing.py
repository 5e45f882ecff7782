"""Telling that something changed, in the transaction that changes it."""

from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

CHANNEL = "palate_live"

Kind = Literal["campaign", "line", "person", "run"]
"""What can be followed. `line`: what serves, and whether a run is under way. `person`: what they may see."""

_NOTIFY = text("SELECT pg_notify(:channel, :topic)")


def topic(kind: Kind, subject_id: int) -> str:
    """The name of a topic, in notifications and as the event that reaches the page: `run-7`."""
    return f"{kind}-{subject_id}"


def announce(session: Session, kind: Kind, subject_id: int) -> None:
    """Tell whoever follows it that it changed, once this transaction commits; one that is rolled back tells nobody.

    Committing takes a lock that all announcing transactions share: nothing for the path of a verdict, which has
    `Hub.announce_soon`.
    """
    session.execute(_NOTIFY, {"channel": CHANNEL, "topic": topic(kind, subject_id)})
