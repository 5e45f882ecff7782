"""Who paused a run, let it go on or called it off, and when: read from the audit log, for those who share the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.audit import AuditEntry
from app.training.models import Run
from app.wording import gettext as _
from app.wording import mark as N_

TITLES: Mapping[str, str] = {
    "run.paused": N_("Paused"),
    "run.continued": N_("Continued"),
    "run.cancelled": N_("Cancelled"),
}


@dataclass(frozen=True)
class Steered:
    """One thing that was done to a run under way."""

    title: str
    at: datetime
    by: str


def steered(session: Session, run: Run) -> list[Steered]:
    """All that was done to a run, oldest first."""
    deeds = (
        select(AuditEntry.action, AuditEntry.at, User.name)
        .outerjoin(User, User.id == AuditEntry.actor_id)
        .where(AuditEntry.subject_type == Run.__name__, AuditEntry.subject_id == str(run.id))
        .where(AuditEntry.action.in_(TITLES))
        .order_by(AuditEntry.id)
    )
    return [
        Steered(_(TITLES[action]), at, name or _("by Palate itself")) for action, at, name in session.execute(deeds)
    ]
