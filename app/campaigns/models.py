"""Tables of campaigns, their revisions, and the people enrolled."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.models import Link, User
from app.database import Base, stored_by_value
from app.deployments.models import Alias, ModelLine, ModelVersion

DEFAULT_CRITERIA = ["helpful", "honest", "harmless"]


class CampaignKind(StrEnum):
    """What annotators do in a campaign."""

    COMPARISON = "comparison"
    DEMONSTRATION = "demonstration"
    LIVE = "live"
    EVALUATION = "evaluation"


class CampaignState(StrEnum):
    """Only an open campaign hands out comparisons; a closed one is over."""

    DRAFT = "draft"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Campaign(Base):
    """A question put to annotators, and how its completions are drawn."""

    __tablename__ = "campaigns"
    __table_args__ = (
        CheckConstraint("comparisons_per_prompt BETWEEN 1 AND 100", name="comparisons_per_prompt_in_range"),
        CheckConstraint("redundancy BETWEEN 1 AND 25", name="redundancy_in_range"),
        CheckConstraint("completions_per_comparison BETWEEN 2 AND 9", name="completions_in_range"),
        CheckConstraint("samples_drawn >= completions_per_comparison", name="enough_samples"),
        CheckConstraint("temperature BETWEEN 0 AND 2", name="temperature_in_range"),
        CheckConstraint("top_p > 0 AND top_p <= 1", name="top_p_in_range"),
        CheckConstraint("max_tokens BETWEEN 1 AND 4096", name="max_tokens_in_range"),
        CheckConstraint("editable_days BETWEEN 0 AND 3650", name="editable_days_in_range"),
        CheckConstraint("pinned_version_id IS NULL OR alias IS NULL", name="alias_or_version"),
        CheckConstraint("line_id IS NOT NULL OR (alias IS NULL AND pinned_version_id IS NULL)", name="alias_of_a_line"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[CampaignKind] = mapped_column(stored_by_value(CampaignKind))
    name: Mapped[str]
    state: Mapped[CampaignState] = mapped_column(stored_by_value(CampaignState))
    line_id: Mapped[int | None] = mapped_column(
        ForeignKey("model_lines.id"), comment="whose model writes, and which line the judgments train"
    )
    alias: Mapped[Alias | None] = mapped_column(
        stored_by_value(Alias), comment="followed; with pinned_version_id also null, completions are imported only"
    )
    pinned_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    comparisons_per_prompt: Mapped[int] = mapped_column(server_default=text("1"))
    redundancy: Mapped[int] = mapped_column(server_default=text("1"), comment="judgments wanted per comparison")
    completions_per_comparison: Mapped[int] = mapped_column(server_default=text("2"), comment="K")
    samples_drawn: Mapped[int] = mapped_column(server_default=text("4"), comment="per comparison; K distinct are shown")
    turns_over: Mapped[bool] = mapped_column(
        server_default=text("true"), comment="after a deployment, unleased comparisons of the older version are remade"
    )
    system_prompt: Mapped[str] = mapped_column(server_default="")
    temperature: Mapped[float] = mapped_column(server_default=text("0.9"))
    top_p: Mapped[float] = mapped_column(server_default=text("0.95"))
    max_tokens: Mapped[int] = mapped_column(server_default=text("256"))
    editable_days: Mapped[int] = mapped_column(
        server_default=text("7"), comment="days within which annotators may change a judgment; 0: never"
    )
    content_warning: Mapped[str] = mapped_column(
        server_default="", comment="shown to each annotator before the first comparison; empty: none"
    )
    begins_with_draft: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="of demonstrations: people begin with a completion by the model"
    )
    picks_uncertain: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="of the samples drawn, those are shown that the line's reward model finds hardest to tell apart",
    )
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    line: Mapped[ModelLine | None] = relationship(lazy="joined")
    pinned_version: Mapped[ModelVersion | None] = relationship()
    revisions: Mapped[list["CampaignRevision"]] = relationship(order_by="CampaignRevision.number")

    @property
    def is_open(self) -> bool:
        """Whether annotators are given comparisons."""
        return self.state is CampaignState.OPEN


class CampaignRevision(Base):
    """What annotators are told and asked; a change is a new revision, never an edit."""

    __tablename__ = "campaign_revisions"
    __table_args__ = (UniqueConstraint("campaign_id", "number"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    number: Mapped[int] = mapped_column(comment="from 1; the highest is in force")
    guidelines: Mapped[str] = mapped_column(server_default="", comment="Markdown")
    examples: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSONB(none_as_null=True), comment="[{prompt, good, bad, why}], in Markdown; null: none"
    )
    ties_allowed: Mapped[bool] = mapped_column(server_default=text("true"))
    all_bad_allowed: Mapped[bool] = mapped_column(server_default=text("true"))
    criteria: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'"), comment="[{name, help}]: judged beside the overall verdict"
    )
    scales: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="strength, rating, confidence, flags, rationale: what is asked and how"
    )
    created_at: Mapped[datetime]
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))


class Access(StrEnum):
    """What an enrolment lets a person see and do, beside judging."""

    NONE = "none"
    RESEARCH = "research"
    MANAGE = "manage"


class Enrolment(Base):
    """A person's part in a campaign: whether they judge, and what else they may."""

    __tablename__ = "enrolments"
    __table_args__ = (Index(None, "user_id"),)

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    judges: Mapped[bool]
    access: Mapped[Access] = mapped_column(stored_by_value(Access), server_default=Access.NONE.value)
    created_at: Mapped[datetime]
    warned_at: Mapped[datetime | None] = mapped_column(comment="when they read the content warning and went on")
    left_at: Mapped[datetime | None] = mapped_column(
        comment="when they ended their judging themselves; null once they judge again"
    )

    user: Mapped[User] = relationship(lazy="joined")
    campaign: Mapped[Campaign] = relationship()


class InvitedEnrolment(Base):
    """An enrolment that takes effect when the invitation link is consumed."""

    __tablename__ = "invited_enrolments"

    link_id: Mapped[int] = mapped_column(ForeignKey("links.id"), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    judges: Mapped[bool]
    access: Mapped[Access] = mapped_column(stored_by_value(Access), server_default=Access.NONE.value)

    link: Mapped[Link] = relationship()
