"""A reward model is asked where held-out pairs show that it is better than chance.

Adds a column with a constant default, so that no row is rewritten for it. Reward models from before go on being asked.
The version before knows nothing of it, and asks the newest.

Revision: 0017, after 0016
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | Sequence[str] | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "model_versions",
        sa.Column(
            "beats_chance",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="of a reward model: it ordered held-out pairs better than chance, so that it is asked",
        ),
    )
    op.execute("UPDATE model_versions SET beats_chance = true WHERE is_reward_model")


def downgrade() -> None:
    op.drop_column("model_versions", "beats_chance")
