"""Annotators correct the better completion or write one for a prompt, and what they wrote before is kept.

Adds a number to demonstrations, of which a judgment's highest is in force, and the key of the submission, so that one
sent twice is stored once; the version before writes no demonstrations, and reads none. Allows comparisons of a further
kind, prompts to write for; they are looked at for that while everybody goes on working. Going back is refused where there
are any: the version before cannot read them.

Revision: 0011, after 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


KINDS = ("ordinary", "gold", "repeat", "adjudication")
CHECK = "ck_comparisons_comparisonkind"


def upgrade() -> None:
    _allow_kinds(*KINDS, "demonstration")
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
    op.create_unique_constraint(
        op.f("uq_demonstrations_judgment_id_number"), "demonstrations", ["judgment_id", "number"]
    )
    op.create_unique_constraint(op.f("uq_demonstrations_author_id_key"), "demonstrations", ["author_id", "key"])


def downgrade() -> None:
    op.drop_constraint(op.f("uq_demonstrations_author_id_key"), "demonstrations", type_="unique")
    op.drop_constraint(op.f("uq_demonstrations_judgment_id_number"), "demonstrations", type_="unique")
    op.drop_column("demonstrations", "key")
    op.drop_column("demonstrations", "number")
    _allow_kinds(*KINDS)


def _allow_kinds(*kinds: str) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.execute(f"ALTER TABLE comparisons DROP CONSTRAINT IF EXISTS {CHECK}")
    op.execute(f"ALTER TABLE comparisons ADD CONSTRAINT {CHECK} CHECK (kind IN ({listed})) NOT VALID")
    op.execute(f"ALTER TABLE comparisons VALIDATE CONSTRAINT {CHECK}")
