"""Looking comparisons up, setting judgments aside, and changing many at once.

Adds two tables and indexes, the latter built while everybody goes on working. An index whose building was broken off
is there and of no use; it is built anew. What the version before stores meanwhile is found by these indexes too.

Revision: 0005, after 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = {
    "ix_comparisons_campaign_id_id": "comparisons (campaign_id, id)",
    "ix_completions_model_version_id": "completions (model_version_id) WHERE model_version_id IS NOT NULL",
    "ix_assignments_skipped": "assignments (comparison_id) WHERE state = 'skipped'",
    "ix_judgments_surplus": "judgments (comparison_id) WHERE surplus",
    "ix_judgments_rationale": (
        "judgments USING gin (to_tsvector('simple'::regconfig, left(rationale, 100000))) WHERE rationale <> ''"
    ),
    "ix_prompts_words": """prompts USING gin (
        (CASE WHEN length(messages::text) <= 100000
              THEN to_tsvector('simple'::regconfig, jsonb_path_query_array(messages, '$[*].content'::jsonpath))
              ELSE to_tsvector('simple'::regconfig, left(messages::text, 100000)) END))""",
    "ix_completions_words": "completions USING gin (to_tsvector('simple'::regconfig, left(text, 100000)))",
}


def upgrade() -> None:
    op.create_table(
        "rejections",
        sa.Column("judgment_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1; odd ones reject, even ones lift"),
        sa.Column("state", _one_of("rejected", "lifted", name="rejectionstate"), nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False, comment="shown to the annotator"),
        sa.Column(
            "serves_again",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="whether the same person may meet the comparison again",
        ),
        sa.Column("by_id", sa.Integer(), nullable=True, comment="null: the system itself"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(mod(number, 2) = 1) = (state = 'rejected')", name=op.f("ck_rejections_rejected_and_lifted_by_turns")
        ),
        sa.CheckConstraint("state = 'lifted' OR reason <> ''", name=op.f("ck_rejections_rejected_for_a_reason")),
        sa.ForeignKeyConstraint(["by_id"], ["users.id"], name=op.f("fk_rejections_by_id")),
        sa.ForeignKeyConstraint(["judgment_id"], ["judgments.id"], name=op.f("fk_rejections_judgment_id")),
        sa.PrimaryKeyConstraint("judgment_id", "number", name=op.f("pk_rejections")),
        if_not_exists=True,
    )
    op.create_table(
        "bulk_changes",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("verb", _one_of("reject", "prioritise", "tag", "retire", name="bulkverb"), nullable=False),
        sa.Column(
            "state",
            _one_of("waiting", "running", "done", "failed", name="bulkstate"),
            server_default="waiting",
            nullable=False,
        ),
        sa.Column("key", sa.Uuid(), nullable=False, comment="idempotency key of the confirmation"),
        sa.Column(
            "filter",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="as in the address of the list",
        ),
        sa.Column(
            "comparison_ids",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=True,
            comment="those chosen one by one; null: all that the filter finds",
        ),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="reason and serves_again, priority, or tags",
        ),
        sa.Column(
            "judgments_up_to", sa.BigInteger(), nullable=False, comment="highest judgment id when it was confirmed"
        ),
        sa.Column("before_id", sa.BigInteger(), nullable=False, comment="comparisons from here up are done"),
        sa.Column("found", sa.Integer(), nullable=False, comment="how many there were when it was confirmed"),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "passed_over",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="were so already, or changed meanwhile such that it no longer applied",
        ),
        sa.Column("message", sa.String(), server_default="", nullable=False, comment="why it failed"),
        sa.Column("created_by_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_bulk_changes_campaign_id")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_bulk_changes_created_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk_changes")),
        sa.UniqueConstraint("created_by_id", "key", name=op.f("uq_bulk_changes_created_by_id_key")),
        if_not_exists=True,
    )
    op.create_index(op.f("ix_bulk_changes_campaign_id_id"), "bulk_changes", ["campaign_id", "id"], if_not_exists=True)
    with op.get_context().autocommit_block():
        _build_indexes()


def _build_indexes() -> None:
    """Build each index beside everybody's work. Waiting for transactions under way keeps nobody else waiting, so the
    patience that migrations have with locks does not apply."""
    connection = op.get_bind()
    patience = connection.scalar(sa.text("SELECT current_setting('lock_timeout')"))
    op.execute("SET lock_timeout = 0")
    broken = sa.text("SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid WHERE NOT indisvalid")
    for name in set(connection.scalars(broken)) & set(INDEXES):
        op.execute(f"DROP INDEX CONCURRENTLY {name}")
    for name, of in INDEXES.items():
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {of}")
    op.execute(f"SET lock_timeout = '{patience}'")


def _one_of(*values: str, name: str) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, create_constraint=True, length=32)


def downgrade() -> None:
    for name in reversed(INDEXES):
        op.drop_index(name)
    op.drop_table("bulk_changes")
    op.drop_table("rejections")
