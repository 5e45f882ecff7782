"""A run's page shows where it is, what the model writes meanwhile, and warnings in words.

Adds a nullable column and two with constant defaults, so that no row is touched. The version before leaves them as they
are; a run that it carries on shows what was known when it took over.

Revision: 0014, after 0013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LISTS = {
    "samples": "trainer.contract.WatchedSamples, some evaluations of them",
    "warnings": "app.training.warning_signs.Warned, in order of their first step",
}


def upgrade() -> None:
    latest = "trainer.contract.MetricsRow, the newest: where the run is"
    op.add_column("runs", sa.Column("latest", JSONB(none_as_null=True), nullable=True, comment=latest))
    for name, comment in LISTS.items():
        column = sa.Column(name, JSONB(), server_default=sa.text("'[]'"), nullable=False, comment=comment)
        op.add_column("runs", column)


def downgrade() -> None:
    for name in ("latest", *LISTS):
        op.drop_column("runs", name)
