"""A campaign can have a reward model choose which samples are shown, and each comparison says how they were chosen.

Adds a nullable column and one with a constant default, so that no row is touched. The version before chooses as ever,
and leaves null how.

Revision: 0016, after 0015
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | Sequence[str] | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "campaigns",
        sa.Column(
            "picks_uncertain",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="of the samples drawn, those are shown that the line's reward model finds hardest to tell apart",
        ),
    )
    op.add_column(
        "comparisons",
        sa.Column(
            "picked",
            sa.String(length=32),
            nullable=True,
            comment="how its completions were chosen of the samples drawn: distinct or uncertain; null: not chosen here",
        ),
    )


def downgrade() -> None:
    op.drop_column("comparisons", "picked")
    op.drop_column("campaigns", "picks_uncertain")
