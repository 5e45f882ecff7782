"""A campaign can warn of its contents, and people can leave it. Adds a column with a constant default, and two nullable.

Revision: 0010, after 0009
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("ALTER TABLE campaigns VALIDATE CONSTRAINT ck_campaigns_editable_days_in_range")
    op.add_column(
        "campaigns",
        sa.Column(
            "content_warning",
            sa.String(),
            server_default="",
            nullable=False,
            comment="shown to each annotator before the first comparison; empty: none",
        ),
    )
    op.add_column(
        "enrolments",
        sa.Column(
            "warned_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when they read the content warning and went on",
        ),
    )
    op.add_column(
        "enrolments",
        sa.Column(
            "left_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when they ended their judging themselves; null once they judge again",
        ),
    )


def downgrade() -> None:
    op.drop_column("enrolments", "left_at")
    op.drop_column("enrolments", "warned_at")
    op.drop_column("campaigns", "content_warning")
