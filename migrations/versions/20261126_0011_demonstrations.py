"""Annotators correct the better completion, and what they wrote before is kept.

Adds a number to demonstrations, of which a judgment's highest is in force, and the key of the submission, so that one
sent twice is stored once. The version before writes no demonstrations, and reads none.

Revision: 0011, after 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "demonstrations",
        sa.Column(
            "number",
            sa.Integer(),
            server_default=sa.text("1"),
            nullable=False,
            comment="from 1; the highest of a judgment is in force",
        ),
    )
    op.add_column(
        "demonstrations", sa.Column("key", sa.Uuid(), nullable=True, comment="idempotency key of the submission")
    )
    op.create_unique_constraint(op.f("uq_demonstrations_judgment_id_number"), "demonstrations", ["judgment_id", "number"])
    op.create_unique_constraint(op.f("uq_demonstrations_author_id_key"), "demonstrations", ["author_id", "key"])


def downgrade() -> None:
    op.drop_constraint(op.f("uq_demonstrations_author_id_key"), "demonstrations", type_="unique")
    op.drop_constraint(op.f("uq_demonstrations_judgment_id_number"), "demonstrations", type_="unique")
    op.drop_column("demonstrations", "key")
    op.drop_column("demonstrations", "number")
