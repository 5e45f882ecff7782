"""Guidelines come with examples of good and bad completions, and demonstrations can begin with a model's draft.

Adds a nullable column and one with a constant default, so that no row is touched. The version before makes no drafts: in a
campaign that begins with them it hands prompts out bare, as ever.

Revision: 0013, after 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "campaign_revisions",
        sa.Column(
            "examples",
            JSONB(none_as_null=True),
            nullable=True,
            comment="[{prompt, good, bad, why}], in Markdown; null: none",
        ),
    )
    op.add_column(
        "campaigns",
        sa.Column(
            "begins_with_draft",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="of demonstrations: people begin with a completion by the model",
        ),
    )


def downgrade() -> None:
    op.drop_column("campaigns", "begins_with_draft")
    op.drop_column("campaign_revisions", "examples")
