"""Model versions that another server writes for. Adds one table; nothing else is touched.

Revision: 0007, after 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | Sequence[str] | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "endpoints",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column(
            "base_url",
            sa.String(),
            nullable=False,
            comment="what /chat/completions is put behind, e.g. https://host/v1",
        ),
        sa.Column(
            "model",
            sa.String(),
            nullable=False,
            comment="the name to ask for; never changed: another model is another version",
        ),
        sa.Column(
            "key_variable",
            sa.String(),
            server_default="",
            nullable=False,
            comment="environment variable that holds the key; empty: none is sent",
        ),
        sa.Column(
            "concurrency",
            sa.Integer(),
            server_default=sa.text("4"),
            nullable=False,
            comment="requests at once, per worker process",
        ),
        sa.Column(
            "gives_n",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="whether one request may ask for several completions",
        ),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("check_passed", sa.Boolean(), nullable=True),
        sa.Column(
            "check_message",
            sa.String(),
            server_default="",
            nullable=False,
            comment="what it answered when last checked",
        ),
        sa.CheckConstraint("concurrency BETWEEN 1 AND 64", name=op.f("ck_endpoints_concurrency_in_range")),
        sa.ForeignKeyConstraint(["version_id"], ["model_versions.id"], name=op.f("fk_endpoints_version_id")),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_endpoints")),
    )


def downgrade() -> None:
    """Lines of other servers stay behind as versions without a folder."""
    op.drop_table("endpoints")
