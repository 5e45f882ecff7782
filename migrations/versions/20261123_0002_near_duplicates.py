"""Near-duplicates of prompts: the bands by which they are found, and whose side of the held-out line one took.

Prompts that are there already keep their sides, whatever they are like; their bands are worked out here, so that
later ones find them. Adds only; a version that knows nothing of it goes on serving meanwhile. The bands are worked out
batch by batch, after the tables have been let go; broken off there, it is begun again.

Revision: 0002, after 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.generation.near_duplicates import bands, shingles

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

OLD = "null: a near-duplicate that bridges both sides, used for neither eval"
NEW = "null: nearly the same as prompts of both sides, and used on neither"
NEAR = "text_sha256 of the prompt that this one is nearly the same as, and whose side it took"
BATCH = 2_000


def upgrade() -> None:
    op.add_column("prompts", sa.Column("near_sha256", sa.String(), nullable=True, comment=NEAR), if_not_exists=True)
    op.alter_column("prompts", "split", existing_type=sa.String(32), existing_comment=OLD, comment=NEW)
    op.create_table(
        "prompt_bands",
        sa.Column("band", sa.BigInteger(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_prompt_bands_prompt_id")),
        sa.PrimaryKeyConstraint("band", "prompt_id", name=op.f("pk_prompt_bands")),
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        _remember_all()


def _remember_all() -> None:
    connection = op.get_bind()
    after = 0
    query = sa.text("SELECT id, messages FROM prompts WHERE id > :after ORDER BY id LIMIT :batch")
    insert = sa.text("INSERT INTO prompt_bands (band, prompt_id) VALUES (:band, :prompt_id) ON CONFLICT DO NOTHING")
    while rows := connection.execute(query, {"after": after, "batch": BATCH}).all():
        found = [{"band": band, "prompt_id": row.id} for row in rows for band in set(bands(shingles(row.messages)))]
        if found:
            connection.execute(insert, found)
        after = rows[-1].id


def downgrade() -> None:
    op.drop_table("prompt_bands")
    op.alter_column("prompts", "split", existing_type=sa.String(32), existing_comment=NEW, comment=OLD)
    op.drop_column("prompts", "near_sha256")
