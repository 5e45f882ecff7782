"""Tables of comparisons, their slots, the assignments that lease them, and the judgments that fill them."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.models import User
from app.campaigns.models import Campaign, CampaignRevision
from app.database import Base, stored_by_value
from app.generation.models import Completion, Import, Prompt
from app.wording import mark as N_


class ComparisonKind(StrEnum):
    """Why a comparison is there."""

    ORDINARY = N_("ordinary")
    GOLD = N_("gold")
    REPEAT = N_("repeat")
    ADJUDICATION = N_("adjudication")


class ComparisonState(StrEnum):
    """Open ones are handed out; dropped ones gave way to newer completions before anyone judged them."""

    OPEN = "open"
    DROPPED = "dropped"


class Picking(StrEnum):
    """How the completions of a comparison were chosen of the samples drawn."""

    DISTINCT = "distinct"
    """Those that differ most."""
    UNCERTAIN = "uncertain"
    """Those that a reward model finds hardest to tell apart."""


class Comparison(Base):
    """A prompt with two or more distinct completions, to be judged `redundancy` times.

    In a demonstration campaign: a prompt alone, for which `redundancy` people are to write one, or with a single
    completion, from which they begin.
    """

    __tablename__ = "comparisons"
    __table_args__ = (
        CheckConstraint("redundancy BETWEEN 1 AND 25", name="redundancy_in_range"),
        CheckConstraint("(kind = 'repeat') = (repeat_of_id IS NOT NULL)", name="repeat_names_what"),
        CheckConstraint("(kind = 'gold') = (gold_ranking IS NOT NULL)", name="gold_has_a_verdict"),
        Index(None, "campaign_id", "state"),
        Index(None, "prompt_id"),
        Index(None, "campaign_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    kind: Mapped[ComparisonKind] = mapped_column(stored_by_value(ComparisonKind), server_default="ordinary")
    state: Mapped[ComparisonState] = mapped_column(stored_by_value(ComparisonState), server_default="open")
    priority: Mapped[float] = mapped_column(server_default=text("0"), comment="higher is handed out sooner")
    redundancy: Mapped[int] = mapped_column(comment="judgments wanted; this many slots exist")
    model_version_id: Mapped[int | None] = mapped_column(
        ForeignKey("model_versions.id"), comment="whose completions these are, where one version wrote them all"
    )
    picked: Mapped[str | None] = mapped_column(
        String(32),
        comment="how its completions were chosen of the samples drawn: distinct or uncertain; null: not chosen here",
    )
    repeat_of_id: Mapped[int | None] = mapped_column(ForeignKey("comparisons.id"))
    gold_ranking: Mapped[list[Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="tie groups of completion ids, best first"
    )
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id"))
    external_id: Mapped[str | None]
    created_at: Mapped[datetime]
    dropped_at: Mapped[datetime | None]

    prompt: Mapped[Prompt] = relationship()
    campaign: Mapped[Campaign] = relationship()
    members: Mapped[list["ComparisonCompletion"]] = relationship(order_by="ComparisonCompletion.position")
    slots: Mapped[list["Slot"]] = relationship(order_by="Slot.number")


class ComparisonCompletion(Base):
    """One of the completions of a comparison; `position` is an arbitrary fixed order, not the one shown."""

    __tablename__ = "comparison_completions"
    __table_args__ = (UniqueConstraint("comparison_id", "position"), Index(None, "completion_id"))

    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    completion_id: Mapped[int] = mapped_column(ForeignKey("completions.id"), primary_key=True)
    position: Mapped[int]

    completion: Mapped[Completion] = relationship()


class AssignmentState(StrEnum):
    """Open: on somebody's screen. Expired: taken back after silence, yet a late verdict is still accepted."""

    OPEN = "open"
    JUDGED = "judged"
    SKIPPED = "skipped"
    EXPIRED = "expired"


class Assignment(Base):
    """One comparison and one annotator: at most one row, however often it is leased anew.

    `id` is drawn at random and is all that a judging page ever shows of a comparison.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        UniqueConstraint("comparison_id", "annotator_id"),
        UniqueConstraint("id", "comparison_id"),
        Index(
            "uq_assignments_open", "campaign_id", "annotator_id", unique=True, postgresql_where=text("state = 'open'")
        ),
        Index("ix_assignments_expiry", "expires_at", postgresql_where=text("state = 'open'")),
        Index("ix_assignments_history", "annotator_id", "campaign_id", "closed_at"),
        Index("ix_assignments_skipped", "comparison_id", postgresql_where=text("state = 'skipped'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id"))
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    annotator_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    state: Mapped[AssignmentState] = mapped_column(stored_by_value(AssignmentState))
    shown_order: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), comment="completion ids as shown, first to last")
    leased_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(comment="renewed while the person is active")
    closed_at: Mapped[datetime | None] = mapped_column(comment="judged or skipped")
    skip_reason: Mapped[str] = mapped_column(server_default="")

    comparison: Mapped[Comparison] = relationship()
    annotator: Mapped[User] = relationship()


class JudgmentState(StrEnum):
    """What a revision says: a verdict, or that the one before no longer holds."""

    GIVEN = "given"
    RETRACTED = "retracted"


class Judgment(Base):
    """One revision of what an annotator decided. Never edited: a change of mind is the next revision.

    `ranking` holds tie groups of completion ids, best first, or null where only `all_bad` was said; of a demonstration
    it is empty, and what was written is the judgment's demonstration.
    An import's judgments name an external annotator instead of a user, and may lack assignment and key.
    """

    __tablename__ = "judgments"
    __table_args__ = (
        UniqueConstraint("assignment_id", "revision"),
        UniqueConstraint("annotator_id", "key"),
        UniqueConstraint("id", "comparison_id"),
        ForeignKeyConstraint(["assignment_id", "comparison_id"], ["assignments.id", "assignments.comparison_id"]),
        CheckConstraint(
            "import_id IS NOT NULL OR (assignment_id IS NOT NULL AND annotator_id IS NOT NULL AND key IS NOT NULL)",
            name="only_imports_lack_an_assignment",
        ),
        CheckConstraint("import_id IS NULL OR external_annotator IS NOT NULL", name="imports_name_their_annotator"),
        CheckConstraint("state = 'retracted' OR ranking IS NOT NULL OR all_bad", name="given_says_something"),
        CheckConstraint("confidence BETWEEN 1 AND 5", name="confidence_in_range"),
        Index(None, "comparison_id"),
        Index("ix_judgments_history", "annotator_id", "judged_at"),
        Index(
            "ix_judgments_external", "import_id", "external_annotator", postgresql_where=text("import_id IS NOT NULL")
        ),
        Index("ix_judgments_surplus", "comparison_id", postgresql_where=text("surplus")),
        Index(
            "ix_judgments_rationale",
            text("to_tsvector('simple'::regconfig, left(rationale, 100000))"),
            postgresql_using="gin",
            postgresql_where=text("rationale <> ''"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id"))
    assignment_id: Mapped[uuid.UUID | None]
    revision: Mapped[int] = mapped_column(server_default=text("1"), comment="from 1; the highest is in force")
    state: Mapped[JudgmentState] = mapped_column(stored_by_value(JudgmentState), server_default="given")
    annotator_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    external_annotator: Mapped[str | None] = mapped_column(comment="who judged, in the words of the import")
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id"))
    campaign_revision_id: Mapped[int | None] = mapped_column(ForeignKey("campaign_revisions.id"))
    ranking: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    all_bad: Mapped[bool] = mapped_column(server_default=text("false"))
    strengths: Mapped[list[Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="per adjacent pair of tie groups"
    )
    criteria: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="criterion to ranking, as tie groups of completion ids"
    )
    ratings: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), comment="completion id to number")
    flags: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), comment="completion id to [flag]")
    spans: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="completion id to [{start, end, category}], in code points of its text"
    )
    rationale: Mapped[str] = mapped_column(server_default="")
    confidence: Mapped[int | None]
    active_ms: Mapped[int | None] = mapped_column(comment="time with the page in view and the person active")
    key: Mapped[uuid.UUID | None] = mapped_column(comment="idempotency key of the submission")
    ui_version: Mapped[str] = mapped_column(server_default="")
    surplus: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="its slot had been filled meanwhile; outside redundancy"
    )
    judged_at: Mapped[datetime]

    comparison: Mapped[Comparison] = relationship()
    assignment: Mapped[Assignment | None] = relationship(
        foreign_keys="Judgment.assignment_id", primaryjoin="Judgment.assignment_id == Assignment.id"
    )
    campaign_revision: Mapped[CampaignRevision | None] = relationship()
    from_import: Mapped[Import | None] = relationship()


class Slot(Base):
    """A place for one counted judgment. Free, leased (an assignment), or filled (a judgment).

    Composite keys keep it honest: assignment and judgment must belong to the same comparison.
    `campaign_id` and `priority` repeat the comparison's so that one index finds the next free slot.
    """

    __tablename__ = "slots"
    __table_args__ = (
        UniqueConstraint("assignment_id"),
        UniqueConstraint("judgment_id"),
        ForeignKeyConstraint(["assignment_id", "comparison_id"], ["assignments.id", "assignments.comparison_id"]),
        ForeignKeyConstraint(["judgment_id", "comparison_id"], ["judgments.id", "judgments.comparison_id"]),
        Index(
            "ix_slots_free",
            "campaign_id",
            text("priority DESC"),
            "comparison_id",
            "number",
            postgresql_where=text("assignment_id IS NULL AND judgment_id IS NULL"),
        ),
    )

    comparison_id: Mapped[int] = mapped_column(ForeignKey("comparisons.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, comment="1 to the comparison's redundancy")
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    priority: Mapped[float] = mapped_column(server_default=text("0"))
    assignment_id: Mapped[uuid.UUID | None]
    judgment_id: Mapped[int | None] = mapped_column(BigInteger)


class QueueState(StrEnum):
    """What the making of completions ahead of the annotators is up to."""

    MAKING = "making"
    READY = "ready"
    RUN_OUT = "run_out"
    STALLED = "stalled"


class CampaignQueue(Base):
    """How a campaign's comparisons ahead of its annotators are coming along: kept by the job, shown to people."""

    __tablename__ = "campaign_queues"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"), primary_key=True)
    state: Mapped[QueueState] = mapped_column(stored_by_value(QueueState))
    message: Mapped[str] = mapped_column(server_default="", comment="why it stalled, in words for people")
    failures: Mapped[int] = mapped_column(server_default=text("0"), comment="in a row; decides how long to wait")
    to_make: Mapped[int] = mapped_column(server_default=text("0"), comment="comparisons that prompts still allow")
    updated_at: Mapped[datetime]


class Demonstration(Base):
    """A person's own or corrected completion: labelled data for supervised fine-tuning.

    Never edited: a second thought is the next number of the same judgment. It holds as long as that judgment does: one
    that was taken back or set aside takes what was written under it along. A judgment that is changed has its own, with
    the same text, as long as what it corrects is still among the best.
    """

    __tablename__ = "demonstrations"
    __table_args__ = (
        Index("uq_demonstrations_judgment_id_number", "judgment_id", "number", unique=True),
        Index("uq_demonstrations_author_id_key", "author_id", "key", unique=True),
        Index(None, "campaign_id"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    completion_id: Mapped[int] = mapped_column(ForeignKey("completions.id"), unique=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    corrects_id: Mapped[int | None] = mapped_column(ForeignKey("completions.id"), comment="the completion corrected")
    judgment_id: Mapped[int | None] = mapped_column(ForeignKey("judgments.id"))
    number: Mapped[int] = mapped_column(
        server_default=text("1"), comment="from 1; the highest of a judgment is in force"
    )
    key: Mapped[uuid.UUID | None] = mapped_column(comment="idempotency key of the submission")
    created_at: Mapped[datetime]


class RejectionState(StrEnum):
    """What a row says of a judgment: that it is set aside, or that it no longer is."""

    REJECTED = "rejected"
    LIFTED = "lifted"


class Rejection(Base):
    """That somebody set a judgment aside, or took that back. Never edited; the highest number holds."""

    __tablename__ = "rejections"
    __table_args__ = (
        CheckConstraint("(mod(number, 2) = 1) = (state = 'rejected')", name="rejected_and_lifted_by_turns"),
        CheckConstraint("state = 'lifted' OR reason <> ''", name="rejected_for_a_reason"),
    )

    judgment_id: Mapped[int] = mapped_column(ForeignKey("judgments.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, comment="from 1; odd ones reject, even ones lift")
    state: Mapped[RejectionState] = mapped_column(stored_by_value(RejectionState))
    reason: Mapped[str] = mapped_column(server_default="", comment="shown to the annotator")
    serves_again: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether the same person may meet the comparison again"
    )
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="null: the system itself")
    at: Mapped[datetime]


class BulkVerb(StrEnum):
    """What can be done to many at once."""

    REJECT = "reject"
    PRIORITISE = "prioritise"
    TAG = "tag"
    RETIRE = "retire"


class BulkState(StrEnum):
    """How far a change of many is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class BulkChange(Base):
    """One deed done to many comparisons, their judgments or prompts; batch by batch, and where it is.

    What it is done to is fixed when it is confirmed: the comparisons chosen, or those that the filter finds up to
    then, and of their judgments those made up to then.
    """

    __tablename__ = "bulk_changes"
    __table_args__ = (UniqueConstraint("created_by_id", "key"), Index(None, "campaign_id", "id"))

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    verb: Mapped[BulkVerb] = mapped_column(stored_by_value(BulkVerb))
    state: Mapped[BulkState] = mapped_column(stored_by_value(BulkState), server_default="waiting")
    key: Mapped[uuid.UUID] = mapped_column(comment="idempotency key of the confirmation")
    filter: Mapped[dict[str, Any]] = mapped_column(comment="as in the address of the list")
    comparison_ids: Mapped[list[int] | None] = mapped_column(
        ARRAY(BigInteger), comment="those chosen one by one; null: all that the filter finds"
    )
    details: Mapped[dict[str, Any]] = mapped_column(comment="reason and serves_again, priority, or tags")
    judgments_up_to: Mapped[int] = mapped_column(BigInteger, comment="highest judgment id when it was confirmed")
    before_id: Mapped[int] = mapped_column(BigInteger, comment="comparisons from here up are done")
    found: Mapped[int] = mapped_column(comment="how many there were when it was confirmed")
    done: Mapped[int] = mapped_column(server_default=text("0"))
    passed_over: Mapped[int] = mapped_column(
        server_default=text("0"), comment="were so already, or changed meanwhile such that it no longer applied"
    )
    message: Mapped[str] = mapped_column(server_default="", comment="why it failed")
    created_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
