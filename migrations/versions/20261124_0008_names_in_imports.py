"""Judgments are found by the annotator whom an import names.

Adds one index, built while everybody goes on working; one whose building was broken off is built anew.

Revision: 0008, after 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "ix_judgments_external"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        patience = connection.scalar(sa.text("SELECT current_setting('lock_timeout')"))
        op.execute("SET lock_timeout = 0")  # waiting for transactions under way keeps nobody else waiting
        broken = sa.text(
            "SELECT count(*) FROM pg_class JOIN pg_index ON indexrelid = oid WHERE NOT indisvalid AND relname = :name"
        )
        if connection.scalar(broken, {"name": NAME}):
            op.execute(f"DROP INDEX CONCURRENTLY {NAME}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME} ON judgments (import_id, external_annotator) "
            "WHERE import_id IS NOT NULL"
        )
        op.execute(f"SET lock_timeout = '{patience}'")


def downgrade() -> None:
    op.drop_index(NAME)
