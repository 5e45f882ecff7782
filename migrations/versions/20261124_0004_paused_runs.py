"""A run can be paused. Adds one column with a constant default, which rewrites nothing.

Revision: 0004, after 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "pause_requested",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the trainer waits, or left with a checkpoint, until taken back",
        ),
    )


def downgrade() -> None:
    op.drop_column("runs", "pause_requested")
