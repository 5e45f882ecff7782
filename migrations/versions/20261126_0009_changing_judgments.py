"""Campaigns say for how many days their annotators may change a judgment. Adds one column with a constant default.
Its constraint is validated by the next migration, so that nobody waits for both.

Revision: 0009, after 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

CHECK = "ck_campaigns_editable_days_in_range"


def upgrade() -> None:
    op.add_column(
        "campaigns",
        sa.Column(
            "editable_days",
            sa.Integer(),
            server_default=sa.text("7"),
            nullable=False,
            comment="days within which annotators may change a judgment; 0: never",
        ),
    )
    op.create_check_constraint(op.f(CHECK), "campaigns", "editable_days BETWEEN 0 AND 3650", postgresql_not_valid=True)


def downgrade() -> None:
    op.drop_constraint(op.f(CHECK), "campaigns")
    op.drop_column("campaigns", "editable_days")
