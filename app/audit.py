"""The audit log: who did what that others may ask about later. Kept by the kernel, written by every domain."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base


class AuditEntry(Base):
    """One deed. Never edited, never deleted."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index(None, "subject_type", "subject_id"), Index(None, "at"))

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime]
    actor_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="null: the system itself")
    action: Mapped[str] = mapped_column(comment="verb of the domain, e.g. campaign.opened")
    subject_type: Mapped[str]
    subject_id: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


def record_deed(
    session: Session,
    *,
    action: str,
    subject: object,
    subject_id: object,
    actor_id: int | None,
    now: datetime,
    **details: Any,
) -> None:
    """Append one deed to the audit log, in the transaction of the deed itself."""
    session.add(
        AuditEntry(
            at=now,
            actor_id=actor_id,
            action=action,
            subject_type=subject if isinstance(subject, str) else type(subject).__name__,
            subject_id=str(subject_id),
            details=details,
        )
    )
