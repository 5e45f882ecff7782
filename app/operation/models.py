"""The table in which every process tells that it lives."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class SignOfLife(Base):
    """One process that reaches the database, from its start on; silent ones are forgotten after a day."""

    __tablename__ = "signs_of_life"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    kind: Mapped[str] = mapped_column(comment="web, worker, supervisor")
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    memory_bytes: Mapped[int] = mapped_column(BigInteger, comment="resident")
    note: Mapped[str] = mapped_column(server_default="", comment="what it says of itself")
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
