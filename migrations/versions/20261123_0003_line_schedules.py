"""Lines may train by themselves after every so many new judgments. Adds one table; nothing else is touched.

Revision: 0003, after 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "line_schedules",
        sa.Column("line_id", sa.Integer(), nullable=False),
        sa.Column(
            "every_judgments", sa.Integer(), nullable=False, comment="new judgments in force after which a run starts"
        ),
        sa.Column("set_by_id", sa.Integer(), nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("every_judgments > 0", name=op.f("ck_line_schedules_every_so_many")),
        sa.ForeignKeyConstraint(["line_id"], ["model_lines.id"], name=op.f("fk_line_schedules_line_id")),
        sa.ForeignKeyConstraint(["set_by_id"], ["users.id"], name=op.f("fk_line_schedules_set_by_id")),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_line_schedules")),
    )


def downgrade() -> None:
    op.drop_table("line_schedules")
