"""The schema and the code agree, and an older Palate refuses a newer database."""

import pytest
from alembic import command
from sqlalchemy import text

from app.database import make_engine
from app.errors import Conflict
from app.generation.near_duplicates import bands, shingles
from app.stack.migrations import alembic_config, migrate


def test_migrations_leave_nothing_over_and_can_be_undone(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    with engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.check(config)
        command.downgrade(config, "base")
        connection.commit()
        left = connection.scalar(
            text("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')")
        )
        assert left == 1, "only Alembic's own table stays"
        connection.commit()
    migrate(engine)
    engine.dispose()


def test_a_database_newer_than_the_code_is_refused_with_what_to_do(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="Start that newer version, or restore a backup"):
        migrate(engine)
    engine.dispose()


def test_prompts_from_before_are_found_by_their_near_duplicates(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    with engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.execute(
            text(
                """
                INSERT INTO campaigns (kind, name, state, created_at) VALUES ('comparison', 'Old', 'draft', now());
                INSERT INTO prompts (campaign_id, messages, text_sha256, split, created_at)
                SELECT id, '[{"role": "user", "content": "What is rain?"}]', 'x', 'eval', now() FROM campaigns
                """
            )
        )
        connection.commit()
        command.upgrade(config, "head")
        stored = connection.scalars(text("SELECT band FROM prompt_bands")).all()
        assert set(stored) == set(bands(shingles([{"role": "user", "content": "What is rain?"}])))
    engine.dispose()
