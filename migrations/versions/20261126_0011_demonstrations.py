"""Annotators correct the better completion or write one for a prompt, and what they wrote before is kept.

Adds a number to demonstrations, of which a judgment's highest is in force, and the key of the submission, so that one
sent twice is stored once. The version before writes no demonstrations, and reads none.

Revision: 0011, after 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


INDEXES = {
    "uq_demonstrations_judgment_id_number": "demonstrations (judgment_id, number)",
    "uq_demonstrations_author_id_key": "demonstrations (author_id, key)",
}


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
        if_not_exists=True,
    )
    op.add_column(
        "demonstrations",
        sa.Column("key", sa.Uuid(), nullable=True, comment="idempotency key of the submission"),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        patience = connection.scalar(sa.text("SELECT current_setting('lock_timeout')"))
        op.execute("SET lock_timeout = 0")  # waiting for transactions under way keeps nobody else waiting
        broken = sa.text(
            "SELECT count(*) FROM pg_class JOIN pg_index ON indexrelid = oid WHERE NOT indisvalid AND relname = :name"
        )
        for name, columns in INDEXES.items():
            if connection.scalar(broken, {"name": name}):
                op.execute(f"DROP INDEX CONCURRENTLY {name}")
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")
        op.execute(f"SET lock_timeout = '{patience}'")


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name)
    op.drop_column("demonstrations", "key")
    op.drop_column("demonstrations", "number")
