"""Tables of snapshots."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.campaigns.models import Campaign
from app.database import Base, stored_by_value
from app.deployments.models import ModelLine


class SnapshotState(StrEnum):
    """Withdrawn: a person asked for their judgments back; files deleted, manifest kept."""

    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class Snapshot(Base):
    """A frozen dataset: all judgments of a line, or of one campaign, as of an instant."""

    __tablename__ = "snapshots"
    __table_args__ = (
        CheckConstraint("line_id IS NOT NULL OR campaign_id IS NOT NULL", name="has_a_scope"),
        CheckConstraint("state <> 'ready' OR (rows_sha256 IS NOT NULL AND path IS NOT NULL)", name="ready_is_whole"),
        Index(None, "campaign_id"),
        Index(None, "line_id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    line_id: Mapped[int | None] = mapped_column(ForeignKey("model_lines.id"))
    campaign_id: Mapped[int | None] = mapped_column(
        ForeignKey("campaigns.id"), comment="null: every campaign of the line"
    )
    state: Mapped[SnapshotState] = mapped_column(stored_by_value(SnapshotState))
    policy: Mapped[dict[str, Any]] = mapped_column(comment="trainer.contract.SnapshotPolicy")
    as_of: Mapped[datetime] = mapped_column(comment="judgments up to here")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("snapshots.id"), comment="the one before, same scope")
    path: Mapped[str | None]
    rows_sha256: Mapped[str | None]
    counts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    manifest: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    message: Mapped[str] = mapped_column(server_default="", comment="why it failed")
    """Of a withdrawn one, why it was withdrawn."""
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    frozen_at: Mapped[datetime | None]

    line: Mapped[ModelLine | None] = relationship()
    campaign: Mapped[Campaign | None] = relationship()


class SnapshotAnnotator(Base):
    """Whose judgments a snapshot holds, so that it can be withdrawn when one of them asks."""

    __tablename__ = "snapshot_annotators"

    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
