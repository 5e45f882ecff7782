"""First tables: people, models, campaigns, prompts, comparisons, judgments, snapshots, runs; and the job queue.

The queue's tables come from procrastinate's own schema, at the version that is installed; its later versions
bring their own migrations, to be wrapped in a revision here.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "model_lines",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column(
            "is_toy",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="labelled as a toy wherever shown",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,39}$'", name=op.f("ck_model_lines_slug_is_plain")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_lines")),
        sa.UniqueConstraint("slug", name=op.f("uq_model_lines_slug")),
    )
    op.create_table(
        "sign_in_attempts",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("subject", sa.String(), nullable=False, comment="email:<lower-case email> or address:<ip>"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_attempts")),
    )
    op.create_index(op.f("ix_sign_in_attempts_subject_at"), "sign_in_attempts", ["subject", "at"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "role",
            sa.Enum(
                "annotator",
                "researcher",
                "manager",
                "admin",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("password_hash", sa.String(), nullable=False, comment="argon2id"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deactivated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index("uq_users_email", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.Integer(), nullable=True, comment="null: the system itself"),
        sa.Column("action", sa.String(), nullable=False, comment="verb of the domain, e.g. campaign.opened"),
        sa.Column("subject_type", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_audit_entries_actor_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(op.f("ix_audit_entries_at"), "audit_entries", ["at"], unique=False)
    op.create_index(
        op.f("ix_audit_entries_subject_type_subject_id"), "audit_entries", ["subject_type", "subject_id"], unique=False
    )
    op.create_table(
        "line_probes",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "probe", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="trainer.contract.ProbePrompt"
        ),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_line_probes_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_line_probes")),
        sa.UniqueConstraint("line_id", "name", name=op.f("uq_line_probes_line_id_name")),
    )
    op.create_table(
        "links",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "first_admin",
                "invitation",
                "password_reset",
                name="linkpurpose",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "role",
            sa.Enum(
                "annotator",
                "researcher",
                "manager",
                "admin",
                name="role",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
            comment="role of the person invited",
        ),
        sa.Column("email", sa.String(), nullable=True, comment="filled in for the person invited; null: they choose"),
        sa.Column("user_id", sa.Integer(), nullable=True, comment="whose password is reset"),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("consumed_by_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "purpose <> 'password_reset' OR user_id IS NOT NULL", name=op.f("ck_links_reset_names_a_user")
        ),
        sa.ForeignKeyConstraint(["consumed_by_id"], ["users.id"], name=op.f("fk_links_consumed_by_id")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_links_created_by_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_links_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_links_token_sha256")),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="0 is the line's base"),
        sa.Column(
            "kind",
            sa.Enum(
                "base", "full", "adapter", name="versionkind", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("path", sa.String(), nullable=False, comment="model folder, absolute"),
        sa.Column("sha256", sa.String(), nullable=False, comment="trainer.contract.weights_sha256 of the folder"),
        sa.Column("note", sa.String(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(kind = 'base') = (parent_id IS NULL)", name=op.f("ck_model_versions_all_but_the_base_have_a_parent")
        ),
        sa.ForeignKeyConstraint(
            ["line_id", "parent_id"],
            ["model_versions.line_id", "model_versions.id"],
            name=op.f("fk_model_versions_line_id_parent_id"),
        ),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_model_versions_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_versions")),
        sa.UniqueConstraint("line_id", "id", name=op.f("uq_model_versions_line_id_id")),
        sa.UniqueConstraint("line_id", "number", name=op.f("uq_model_versions_line_id_number")),
    )
    op.create_table(
        "sign_ins",
        sa.Column("token_sha256", sa.String(), nullable=False, comment="of the cookie; the cookie itself is not kept"),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="to the minute, so that most requests write nothing",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_agent", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sign_ins_user_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_user_id"), "sign_ins", ["user_id"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "comparison",
                "demonstration",
                "live",
                "evaluation",
                name="campaignkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "draft",
                "open",
                "paused",
                "closed",
                name="campaignstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "line_id", sa.Integer(), nullable=True, comment="whose model writes, and which line the judgments train"
        ),
        sa.Column(
            "alias",
            sa.Enum("current", "candidate", name="alias", native_enum=False, create_constraint=True, length=32),
            nullable=True,
            comment="followed; with pinned_version_id also null, completions are imported only",
        ),
        sa.Column("pinned_version_id", sa.Integer(), nullable=True),
        sa.Column("comparisons_per_prompt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column(
            "redundancy",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="judgments wanted per comparison",
        ),
        sa.Column("completions_per_comparison", sa.Integer(), server_default=sa.text("2"), nullable=False, comment="K"),
        sa.Column(
            "samples_drawn",
            sa.Integer(),
            server_default=sa.text("4"),
            nullable=False,
            comment="per comparison; K distinct are shown",
        ),
        sa.Column(
            "turns_over",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="after a deployment, unleased comparisons of the older version are remade",
        ),
        sa.Column("system_prompt", sa.String(), server_default="", nullable=False),
        sa.Column("temperature", sa.Double(), server_default=sa.text("0.9"), nullable=False),
        sa.Column("top_p", sa.Double(), server_default=sa.text("0.95"), nullable=False),
        sa.Column("max_tokens", sa.Integer(), server_default=sa.text("256"), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "comparisons_per_prompt BETWEEN 1 AND 100", name=op.f("ck_campaigns_comparisons_per_prompt_in_range")
        ),
        sa.CheckConstraint(
            "completions_per_comparison BETWEEN 2 AND 9", name=op.f("ck_campaigns_completions_in_range")
        ),
        sa.CheckConstraint(
            "line_id IS NOT NULL OR (alias IS NULL AND pinned_version_id IS NULL)",
            name=op.f("ck_campaigns_alias_of_a_line"),
        ),
        sa.CheckConstraint("max_tokens BETWEEN 1 AND 4096", name=op.f("ck_campaigns_max_tokens_in_range")),
        sa.CheckConstraint("pinned_version_id IS NULL OR alias IS NULL", name=op.f("ck_campaigns_alias_or_version")),
        sa.CheckConstraint("redundancy BETWEEN 1 AND 25", name=op.f("ck_campaigns_redundancy_in_range")),
        sa.CheckConstraint("samples_drawn >= completions_per_comparison", name=op.f("ck_campaigns_enough_samples")),
        sa.CheckConstraint("temperature BETWEEN 0 AND 2", name=op.f("ck_campaigns_temperature_in_range")),
        sa.CheckConstraint("top_p > 0 AND top_p <= 1", name=op.f("ck_campaigns_top_p_in_range")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_campaigns_created_by_id")),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_campaigns_line_id")),
        sa.ForeignKeyConstraint(
            ["pinned_version_id"], ["model_versions.id"], name=op.f("fk_campaigns_pinned_version_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column(
            "alias",
            sa.Enum("current", "candidate", name="alias", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=True, comment="null: the system itself"),
        sa.ForeignKeyConstraint(["by_id"], ["users.id"], name=op.f("fk_deployments_by_id")),
        sa.ForeignKeyConstraint(
            ["line_id", "version_id"],
            ["model_versions.line_id", "model_versions.id"],
            name=op.f("fk_deployments_line_id_version_id"),
        ),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_deployments_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
    )
    op.create_index(
        "uq_deployments_open",
        "deployments",
        ["line_id", "alias"],
        unique=True,
        postgresql_where=sa.text("until IS NULL"),
    )
    op.create_table(
        "campaign_revisions",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1; the highest is in force"),
        sa.Column("guidelines", sa.String(), server_default="", nullable=False, comment="Markdown"),
        sa.Column("ties_allowed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("all_bad_allowed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "criteria",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="[{name, help}]: judged beside the overall verdict",
        ),
        sa.Column(
            "scales",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="strength, rating, confidence, flags, rationale: what is asked and how",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_revisions_campaign_id")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_campaign_revisions_created_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_revisions")),
        sa.UniqueConstraint("campaign_id", "number", name=op.f("uq_campaign_revisions_campaign_id_number")),
    )
    op.create_table(
        "enrolments",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("judges", sa.Boolean(), nullable=False),
        sa.Column(
            "access",
            sa.Enum("none", "research", "manage", name="access", native_enum=False, create_constraint=True, length=32),
            server_default="none",
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_enrolments_campaign_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_enrolments_user_id")),
        sa.PrimaryKeyConstraint("campaign_id", "user_id", name=op.f("pk_enrolments")),
    )
    op.create_index(op.f("ix_enrolments_user_id"), "enrolments", ["user_id"], unique=False)
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("prompts", "comparisons", name="importkind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "running",
                "done",
                "failed",
                name="importstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True, comment="of the file as received"),
        sa.Column(
            "counts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="lines, added, duplicates, rejected, judgments ...",
        ),
        sa.Column(
            "rejections",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="[{line, reason, excerpt}], the first 1,000",
        ),
        sa.Column("message", sa.String(), server_default="", nullable=False, comment="why it failed as a whole"),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_imports_campaign_id")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_imports_created_by_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_index(op.f("ix_imports_campaign_id"), "imports", ["campaign_id"], unique=False)
    op.create_table(
        "invited_enrolments",
        sa.Column("link_id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("judges", sa.Boolean(), nullable=False),
        sa.Column(
            "access",
            sa.Enum("none", "research", "manage", name="access", native_enum=False, create_constraint=True, length=32),
            server_default="none",
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_invited_enrolments_campaign_id")),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_invited_enrolments_link_id")),
        sa.PrimaryKeyConstraint("link_id", "campaign_id", name=op.f("pk_invited_enrolments")),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=True),
        sa.Column("campaign_id", sa.Integer(), nullable=True, comment="null: every campaign of the line"),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "ready",
                "failed",
                "withdrawn",
                name="snapshotstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="trainer.contract.SnapshotPolicy"
        ),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False, comment="judgments up to here"),
        sa.Column("parent_id", sa.Integer(), nullable=True, comment="the one before, same scope"),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("rows_sha256", sa.String(), nullable=True),
        sa.Column("counts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("manifest", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("message", sa.String(), server_default="", nullable=False, comment="why it failed"),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("frozen_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state <> 'ready' OR (rows_sha256 IS NOT NULL AND path IS NOT NULL)",
            name=op.f("ck_snapshots_ready_is_whole"),
        ),
        sa.CheckConstraint("line_id IS NOT NULL OR campaign_id IS NOT NULL", name=op.f("ck_snapshots_has_a_scope")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_snapshots_campaign_id")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name=op.f("fk_snapshots_created_by_id")),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_snapshots_line_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["snapshots.id"], name=op.f("fk_snapshots_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_index(op.f("ix_snapshots_campaign_id"), "snapshots", ["campaign_id"], unique=False)
    op.create_index(op.f("ix_snapshots_line_id"), "snapshots", ["line_id"], unique=False)
    op.create_table(
        "prompts",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("messages", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="[{role, content}]"),
        sa.Column("text_sha256", sa.String(), nullable=False, comment="of the normalised text; duplicates share it"),
        sa.Column(
            "split",
            sa.Enum("train", "eval", name="split", native_enum=False, create_constraint=True, length=32),
            nullable=True,
            comment="null: a near-duplicate that bridges both sides, used for neither eval",
        ),
        sa.Column(
            "state",
            sa.Enum(
                "active",
                "set_aside",
                "retired",
                name="promptstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="active",
            nullable=False,
        ),
        sa.Column("state_reason", sa.String(), server_default="", nullable=False),
        sa.Column("tags", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="metadata of the source",
        ),
        sa.Column("external_id", sa.String(), nullable=True),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column(
            "failed_draws",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="draws in a row without enough distinct samples",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("jsonb_array_length(messages) > 0", name=op.f("ck_prompts_has_messages")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_prompts_campaign_id")),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name=op.f("fk_prompts_import_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
        sa.UniqueConstraint("campaign_id", "text_sha256", name=op.f("uq_prompts_campaign_id_text_sha256")),
    )
    op.create_index(op.f("ix_prompts_campaign_id_state_id"), "prompts", ["campaign_id", "state", "id"], unique=False)
    op.create_index("ix_prompts_tags", "prompts", ["tags"], unique=False, postgresql_using="gin")
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column("snapshot_id", sa.Integer(), nullable=False),
        sa.Column("base_version_id", sa.Integer(), nullable=False),
        sa.Column("start_version_id", sa.Integer(), nullable=False),
        sa.Column("reference_version_id", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "waiting",
                "running",
                "succeeded",
                "failed",
                "cancelled",
                name="runstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column(
            "hyperparameters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="trainer.contract.Hyperparameters",
        ),
        sa.Column("budget", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="trainer.contract.Budget"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column(
            "version_number", sa.Integer(), nullable=False, comment="number that the version will have in its line"
        ),
        sa.Column("fraction", sa.Double(), server_default=sa.text("0"), nullable=False, comment="done so far, 0 to 1"),
        sa.Column("message", sa.String(), server_default="", nullable=False, comment="what it does, or why it ended"),
        sa.Column(
            "metrics",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="trainer.contract.MetricsRow, thinned: for the chart",
        ),
        sa.Column("log", sa.String(), server_default="", nullable=False, comment="the end of the trainer's log"),
        sa.Column("deploys_when_passed", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "report",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="trainer.contract.Report",
        ),
        sa.Column(
            "gate",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="the gate's checks, as decided",
        ),
        sa.Column("model_version_id", sa.Integer(), nullable=True),
        sa.Column("requested_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state <> 'succeeded' OR model_version_id IS NOT NULL", name=op.f("ck_runs_success_registers_a_version")
        ),
        sa.ForeignKeyConstraint(["base_version_id"], ["model_versions.id"], name=op.f("fk_runs_base_version_id")),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_runs_line_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name=op.f("fk_runs_model_version_id")),
        sa.ForeignKeyConstraint(
            ["reference_version_id"], ["model_versions.id"], name=op.f("fk_runs_reference_version_id")
        ),
        sa.ForeignKeyConstraint(["requested_by_id"], ["users.id"], name=op.f("fk_runs_requested_by_id")),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshots.id"], name=op.f("fk_runs_snapshot_id")),
        sa.ForeignKeyConstraint(["start_version_id"], ["model_versions.id"], name=op.f("fk_runs_start_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("model_version_id", name=op.f("uq_runs_model_version_id")),
    )
    op.create_index(
        "uq_runs_under_way",
        "runs",
        ["line_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('waiting', 'running')"),
    )
    op.create_table(
        "snapshot_annotators",
        sa.Column("snapshot_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_annotators_snapshot_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_snapshot_annotators_user_id")),
        sa.PrimaryKeyConstraint("snapshot_id", "user_id", name=op.f("pk_snapshot_annotators")),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "ordinary",
                "gold",
                "repeat",
                "adjudication",
                name="comparisonkind",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="ordinary",
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum("open", "dropped", name="comparisonstate", native_enum=False, create_constraint=True, length=32),
            server_default="open",
            nullable=False,
        ),
        sa.Column(
            "priority", sa.Double(), server_default=sa.text("0"), nullable=False, comment="higher is handed out sooner"
        ),
        sa.Column("redundancy", sa.Integer(), nullable=False, comment="judgments wanted; this many slots exist"),
        sa.Column(
            "model_version_id",
            sa.Integer(),
            nullable=True,
            comment="whose completions these are, where one version wrote them all",
        ),
        sa.Column("repeat_of_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "gold_ranking",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="tie groups of completion ids, best first",
        ),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column("external_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(kind = 'gold') = (gold_ranking IS NOT NULL)", name=op.f("ck_comparisons_gold_has_a_verdict")
        ),
        sa.CheckConstraint(
            "(kind = 'repeat') = (repeat_of_id IS NOT NULL)", name=op.f("ck_comparisons_repeat_names_what")
        ),
        sa.CheckConstraint("redundancy BETWEEN 1 AND 25", name=op.f("ck_comparisons_redundancy_in_range")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_comparisons_campaign_id")),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name=op.f("fk_comparisons_import_id")),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_comparisons_model_version_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_comparisons_prompt_id")),
        sa.ForeignKeyConstraint(["repeat_of_id"], ["comparisons.id"], name=op.f("fk_comparisons_repeat_of_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
    )
    op.create_index(op.f("ix_comparisons_campaign_id_state"), "comparisons", ["campaign_id", "state"], unique=False)
    op.create_index(op.f("ix_comparisons_prompt_id"), "comparisons", ["prompt_id"], unique=False)
    op.create_table(
        "completions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column(
            "source",
            sa.Enum(
                "model",
                "imported",
                "person",
                name="completionsource",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column(
            "normalised_sha256",
            sa.String(),
            nullable=False,
            comment="of the normalised text; alike completions share it",
        ),
        sa.Column("model_version_id", sa.Integer(), nullable=True),
        sa.Column("model_label", sa.String(), nullable=True, comment="what an import called its model"),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column("temperature", sa.Double(), nullable=True),
        sa.Column("top_p", sa.Double(), nullable=True),
        sa.Column("max_tokens", sa.Integer(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("finish_reason", sa.String(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("chat_template_sha256", sa.String(), nullable=True),
        sa.Column("tokenizer_sha256", sa.String(), nullable=True),
        sa.Column("token_ids", sa.ARRAY(sa.Integer()), nullable=True, comment="as generated, where known"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "source <> 'model' OR model_version_id IS NOT NULL", name=op.f("ck_completions_model_names_its_version")
        ),
        sa.CheckConstraint(
            "source <> 'person' OR author_id IS NOT NULL", name=op.f("ck_completions_person_names_its_author")
        ),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name=op.f("fk_completions_author_id")),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name=op.f("fk_completions_import_id")),
        sa.ForeignKeyConstraint(
            ["model_version_id"], ["model_versions.id"], name=op.f("fk_completions_model_version_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_completions_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completions")),
    )
    op.create_index(op.f("ix_completions_prompt_id"), "completions", ["prompt_id"], unique=False)
    op.create_table(
        "gate_overrides",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(trim(reason)) >= 10", name=op.f("ck_gate_overrides_reason_says_something")),
        sa.ForeignKeyConstraint(["by_id"], ["users.id"], name=op.f("fk_gate_overrides_by_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_gate_overrides_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_overrides")),
        sa.UniqueConstraint("run_id", name=op.f("uq_gate_overrides_run_id")),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("comparison_id", sa.BigInteger(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("annotator_id", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "open",
                "judged",
                "skipped",
                "expired",
                name="assignmentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column(
            "shown_order", sa.ARRAY(sa.BigInteger()), nullable=False, comment="completion ids as shown, first to last"
        ),
        sa.Column("leased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=False, comment="renewed while the person is active"
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, comment="judged or skipped"),
        sa.Column("skip_reason", sa.String(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["annotator_id"], ["users.id"], name=op.f("fk_assignments_annotator_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_assignments_campaign_id")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_assignments_comparison_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sa.UniqueConstraint("comparison_id", "annotator_id", name=op.f("uq_assignments_comparison_id_annotator_id")),
        sa.UniqueConstraint("id", "comparison_id", name=op.f("uq_assignments_id_comparison_id")),
    )
    op.create_index(
        "ix_assignments_expiry", "assignments", ["expires_at"], unique=False, postgresql_where=sa.text("state = 'open'")
    )
    op.create_index("ix_assignments_history", "assignments", ["annotator_id", "campaign_id", "closed_at"], unique=False)
    op.create_index(
        "uq_assignments_open",
        "assignments",
        ["campaign_id", "annotator_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "comparison_completions",
        sa.Column("comparison_id", sa.BigInteger(), nullable=False),
        sa.Column("completion_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["comparison_id"], ["comparisons.id"], name=op.f("fk_comparison_completions_comparison_id")
        ),
        sa.ForeignKeyConstraint(
            ["completion_id"], ["completions.id"], name=op.f("fk_comparison_completions_completion_id")
        ),
        sa.PrimaryKeyConstraint("comparison_id", "completion_id", name=op.f("pk_comparison_completions")),
        sa.UniqueConstraint("comparison_id", "position", name=op.f("uq_comparison_completions_comparison_id_position")),
    )
    op.create_index(
        op.f("ix_comparison_completions_completion_id"), "comparison_completions", ["completion_id"], unique=False
    )
    op.create_table(
        "judgments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("comparison_id", sa.BigInteger(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.Column(
            "revision",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="from 1; the highest is in force",
        ),
        sa.Column(
            "state",
            sa.Enum("given", "retracted", name="judgmentstate", native_enum=False, create_constraint=True, length=32),
            server_default="given",
            nullable=False,
        ),
        sa.Column("annotator_id", sa.Integer(), nullable=True),
        sa.Column("external_annotator", sa.String(), nullable=True, comment="who judged, in the words of the import"),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column("campaign_revision_id", sa.Integer(), nullable=True),
        sa.Column("ranking", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("all_bad", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "strengths",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="per adjacent pair of tie groups",
        ),
        sa.Column(
            "criteria",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="criterion to ranking, as tie groups of completion ids",
        ),
        sa.Column(
            "ratings",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="completion id to number",
        ),
        sa.Column(
            "flags",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="completion id to [flag]",
        ),
        sa.Column("rationale", sa.String(), server_default="", nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=True),
        sa.Column("active_ms", sa.Integer(), nullable=True, comment="time with the page in view and the person active"),
        sa.Column("key", sa.Uuid(), nullable=True, comment="idempotency key of the submission"),
        sa.Column("ui_version", sa.String(), server_default="", nullable=False),
        sa.Column(
            "surplus",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="its slot had been filled meanwhile; outside redundancy",
        ),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state = 'retracted' OR ranking IS NOT NULL OR all_bad", name=op.f("ck_judgments_given_says_something")
        ),
        sa.CheckConstraint("confidence BETWEEN 1 AND 5", name=op.f("ck_judgments_confidence_in_range")),
        sa.CheckConstraint(
            "import_id IS NOT NULL OR (assignment_id IS NOT NULL AND annotator_id IS NOT NULL AND key IS NOT NULL)",
            name=op.f("ck_judgments_only_imports_lack_an_assignment"),
        ),
        sa.CheckConstraint(
            "import_id IS NULL OR external_annotator IS NOT NULL",
            name=op.f("ck_judgments_imports_name_their_annotator"),
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["users.id"], name=op.f("fk_judgments_annotator_id")),
        sa.ForeignKeyConstraint(
            ["assignment_id", "comparison_id"],
            ["assignments.id", "assignments.comparison_id"],
            name=op.f("fk_judgments_assignment_id_comparison_id"),
        ),
        sa.ForeignKeyConstraint(
            ["campaign_revision_id"], ["campaign_revisions.id"], name=op.f("fk_judgments_campaign_revision_id")
        ),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_judgments_comparison_id")),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name=op.f("fk_judgments_import_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgments")),
        sa.UniqueConstraint("annotator_id", "key", name=op.f("uq_judgments_annotator_id_key")),
        sa.UniqueConstraint("assignment_id", "revision", name=op.f("uq_judgments_assignment_id_revision")),
        sa.UniqueConstraint("id", "comparison_id", name=op.f("uq_judgments_id_comparison_id")),
    )
    op.create_index(op.f("ix_judgments_comparison_id"), "judgments", ["comparison_id"], unique=False)
    op.create_index("ix_judgments_history", "judgments", ["annotator_id", "judged_at"], unique=False)
    op.create_table(
        "demonstrations",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.BigInteger(), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column("corrects_id", sa.BigInteger(), nullable=True, comment="the completion corrected"),
        sa.Column("judgment_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name=op.f("fk_demonstrations_author_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_demonstrations_campaign_id")),
        sa.ForeignKeyConstraint(["completion_id"], ["completions.id"], name=op.f("fk_demonstrations_completion_id")),
        sa.ForeignKeyConstraint(["corrects_id"], ["completions.id"], name=op.f("fk_demonstrations_corrects_id")),
        sa.ForeignKeyConstraint(["judgment_id"], ["judgments.id"], name=op.f("fk_demonstrations_judgment_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_demonstrations_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_demonstrations")),
        sa.UniqueConstraint("completion_id", name=op.f("uq_demonstrations_completion_id")),
    )
    op.create_index(op.f("ix_demonstrations_campaign_id"), "demonstrations", ["campaign_id"], unique=False)
    op.create_table(
        "slots",
        sa.Column("comparison_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="1 to the comparison's redundancy"),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.Column("judgment_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["assignment_id", "comparison_id"],
            ["assignments.id", "assignments.comparison_id"],
            name=op.f("fk_slots_assignment_id_comparison_id"),
        ),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_slots_campaign_id")),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("fk_slots_comparison_id")),
        sa.ForeignKeyConstraint(
            ["judgment_id", "comparison_id"],
            ["judgments.id", "judgments.comparison_id"],
            name=op.f("fk_slots_judgment_id_comparison_id"),
        ),
        sa.PrimaryKeyConstraint("comparison_id", "number", name=op.f("pk_slots")),
        sa.UniqueConstraint("assignment_id", name=op.f("uq_slots_assignment_id")),
        sa.UniqueConstraint("judgment_id", name=op.f("uq_slots_judgment_id")),
    )
    op.create_index(
        "ix_slots_free",
        "slots",
        ["campaign_id", sa.literal_column("priority DESC"), "comparison_id", "number"],
        unique=False,
        postgresql_where=sa.text("assignment_id IS NULL AND judgment_id IS NULL"),
    )
    op.create_table(
        "campaign_queues",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "making",
                "ready",
                "run_out",
                "stalled",
                name="queuestate",
                native_enum=False,
                length=32,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column(
            "message",
            sa.String(),
            server_default=sa.text("''"),
            nullable=False,
            comment="why it stalled, in words for people",
        ),
        sa.Column(
            "failures",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="in a row; decides how long to wait",
        ),
        sa.Column(
            "to_make",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="comparisons that prompts still allow",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_queues_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("pk_campaign_queues")),
    )
    _execute_script(SchemaManager.get_schema())


def downgrade() -> None:
    _drop_queue()
    op.drop_table("campaign_queues")
    op.drop_index(
        "ix_slots_free", table_name="slots", postgresql_where=sa.text("assignment_id IS NULL AND judgment_id IS NULL")
    )
    op.drop_table("slots")
    op.drop_index(op.f("ix_demonstrations_campaign_id"), table_name="demonstrations")
    op.drop_table("demonstrations")
    op.drop_index("ix_judgments_history", table_name="judgments")
    op.drop_index(op.f("ix_judgments_comparison_id"), table_name="judgments")
    op.drop_table("judgments")
    op.drop_index(op.f("ix_comparison_completions_completion_id"), table_name="comparison_completions")
    op.drop_table("comparison_completions")
    op.drop_index("uq_assignments_open", table_name="assignments", postgresql_where=sa.text("state = 'open'"))
    op.drop_index("ix_assignments_history", table_name="assignments")
    op.drop_index("ix_assignments_expiry", table_name="assignments", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("assignments")
    op.drop_table("gate_overrides")
    op.drop_index(op.f("ix_completions_prompt_id"), table_name="completions")
    op.drop_table("completions")
    op.drop_index(op.f("ix_comparisons_prompt_id"), table_name="comparisons")
    op.drop_index(op.f("ix_comparisons_campaign_id_state"), table_name="comparisons")
    op.drop_table("comparisons")
    op.drop_table("snapshot_annotators")
    op.drop_index("uq_runs_under_way", table_name="runs", postgresql_where=sa.text("state IN ('waiting', 'running')"))
    op.drop_table("runs")
    op.drop_index("ix_prompts_tags", table_name="prompts", postgresql_using="gin")
    op.drop_index(op.f("ix_prompts_campaign_id_state_id"), table_name="prompts")
    op.drop_table("prompts")
    op.drop_index(op.f("ix_snapshots_line_id"), table_name="snapshots")
    op.drop_index(op.f("ix_snapshots_campaign_id"), table_name="snapshots")
    op.drop_table("snapshots")
    op.drop_table("invited_enrolments")
    op.drop_index(op.f("ix_imports_campaign_id"), table_name="imports")
    op.drop_table("imports")
    op.drop_index(op.f("ix_enrolments_user_id"), table_name="enrolments")
    op.drop_table("enrolments")
    op.drop_table("campaign_revisions")
    op.drop_index("uq_deployments_open", table_name="deployments", postgresql_where=sa.text("until IS NULL"))
    op.drop_table("deployments")
    op.drop_table("campaigns")
    op.drop_index(op.f("ix_sign_ins_user_id"), table_name="sign_ins")
    op.drop_table("sign_ins")
    op.drop_table("model_versions")
    op.drop_table("links")
    op.drop_table("line_probes")
    op.drop_index(op.f("ix_audit_entries_subject_type_subject_id"), table_name="audit_entries")
    op.drop_index(op.f("ix_audit_entries_at"), table_name="audit_entries")
    op.drop_table("audit_entries")
    op.drop_index("uq_users_email", table_name="users")
    op.drop_table("users")
    op.drop_index(op.f("ix_sign_in_attempts_subject_at"), table_name="sign_in_attempts")
    op.drop_table("sign_in_attempts")
    op.drop_table("model_lines")


def _execute_script(script: str) -> None:
    """Run several statements as they are: a percent sign in them is no placeholder."""
    op.get_bind().connection.cursor().execute(script)


def _drop_queue() -> None:
    """Drop everything that procrastinate's schema made: tables, functions and types by their common prefix."""
    _execute_script(
        """
        DO $$
        DECLARE item record;
        BEGIN
          FOR item IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'procrastinate_%' LOOP
            EXECUTE format('DROP TABLE %I CASCADE', item.tablename);
          END LOOP;
          FOR item IN SELECT oid::regprocedure AS signature FROM pg_proc
            WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate_%' LOOP
            EXECUTE 'DROP FUNCTION ' || item.signature || ' CASCADE';
          END LOOP;
          FOR item IN SELECT typname FROM pg_type t
            WHERE typnamespace = current_schema()::regnamespace AND typname LIKE 'procrastinate_%' AND typtype IN ('e', 'c') LOOP
            EXECUTE format('DROP TYPE %I CASCADE', item.typname);
          END LOOP;
        END $$
        """
    )
