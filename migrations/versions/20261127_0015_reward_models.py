"""A version can be a reward model, which gives completions rewards and writes none.

Adds a column with a constant default, so that no row is touched. The version before makes no reward models; one made
meanwhile by the newer code it would list as any other, so finish the upgrade before training one.

Revision: 0015, after 0014
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | Sequence[str] | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "model_versions",
        sa.Column(
            "is_reward_model",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="it gives completions rewards and writes none: never deployed, served or started from",
        ),
    )


def downgrade() -> None:
    op.drop_column("model_versions", "is_reward_model")
