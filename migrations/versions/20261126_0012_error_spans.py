"""Annotators mark stretches of a completion's text, each under a category of errors.

Adds one column without a default, which touches no row. The categories stand in what a campaign revision asks already
(`scales`). The version before writes no spans, and reads none.

Revision: 0012, after 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "judgments",
        sa.Column(
            "spans",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="completion id to [{start, end, category}], in code points of its text",
        ),
    )


def downgrade() -> None:
    op.drop_column("judgments", "spans")
