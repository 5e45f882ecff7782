"""How Alembic reaches the database: over the connection it is handed, or the address in DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection

from app.database import make_engine
from app.tables import metadata


def include_object(thing: object, name: str | None, kind: str, reflected: bool, compared: object) -> bool:
    """Leave the job queue's own tables to its own schema."""
    table = name if kind == "table" else getattr(getattr(thing, "table", None), "name", name)
    return not (table or "").startswith("procrastinate_")


def run(connection: Connection) -> None:
    """Run or compare migrations on one connection."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=include_object,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if (handed := context.config.attributes.get("connection")) is not None:
    run(handed)
else:
    with make_engine(os.environ["DATABASE_URL"]).connect() as own:
        run(own)
        own.commit()
