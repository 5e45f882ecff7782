"""Tables of model lines, versions and deployments."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.models import User
from app.database import Base, stored_by_value
from trainer.contract.run import ModelRef
from trainer.contract.server import alias_name, version_name


class ModelLine(Base):
    """A base model and all that was trained from it."""

    __tablename__ = "model_lines"
    __table_args__ = (CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,39}$'", name="slug_is_plain"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    is_toy: Mapped[bool] = mapped_column(server_default=text("false"), comment="labelled as a toy wherever shown")
    created_at: Mapped[datetime]

    def alias(self, alias: "Alias") -> str:
        """The alias as the model server knows it, e.g. `starter/current`."""
        return alias_name(self.slug, alias.value)


class VersionKind(StrEnum):
    """What a version's folder holds."""

    BASE = "base"
    FULL = "full"
    ADAPTER = "adapter"


class ModelVersion(Base):
    """Weights on disk, with where they came from. Never edited."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("line_id", "number"),
        UniqueConstraint("line_id", "id"),
        CheckConstraint("(kind = 'base') = (parent_id IS NULL)", name="all_but_the_base_have_a_parent"),
        ForeignKeyConstraint(["line_id", "parent_id"], ["model_versions.line_id", "model_versions.id"]),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("model_lines.id"))
    number: Mapped[int] = mapped_column(comment="0 is the line's base")
    kind: Mapped[VersionKind] = mapped_column(stored_by_value(VersionKind))
    parent_id: Mapped[int | None]
    path: Mapped[str] = mapped_column(comment="model folder, absolute")
    sha256: Mapped[str] = mapped_column(comment="trainer.contract.weights_sha256 of the folder")
    is_reward_model: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="it gives completions rewards and writes none: never deployed, served or started from",
    )
    beats_chance: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="of a reward model: it ordered held-out pairs better than chance, so that it is asked",
    )
    note: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]

    line: Mapped[ModelLine] = relationship(lazy="joined", overlaps="parent")
    parent: Mapped["ModelVersion | None"] = relationship(
        remote_side="ModelVersion.id",
        foreign_keys="ModelVersion.parent_id",
        primaryjoin="ModelVersion.parent_id == ModelVersion.id",
    )

    endpoint: Mapped["Endpoint | None"] = relationship(lazy="joined", back_populates="version")

    @property
    def name(self) -> str:
        """The name on the model server and in datasets, e.g. `starter-v2`."""
        return version_name(self.line.slug, self.number)

    @property
    def base(self) -> "ModelVersion | None":
        """What an adapter stands on, the nearest of its ancestors that is none; None for a version without a base."""
        found = self.parent if self.kind is VersionKind.ADAPTER else None
        while found is not None and found.kind is VersionKind.ADAPTER:
            found = found.parent
        return found

    def reference(self) -> ModelRef:
        """How trainer and model server are told of it: its folder, and that of its base, as they lie now."""
        base = self.base
        return ModelRef(
            name=self.name, path=self.path, sha256=self.sha256, base=base.reference() if base is not None else None
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether another server writes its completions, so that there are no weights here to load or to train."""
        return self.endpoint is not None


class Endpoint(Base):
    """Where a version that lies elsewhere is asked: a model on any server that speaks the OpenAI API."""

    __tablename__ = "endpoints"
    __table_args__ = (CheckConstraint("concurrency BETWEEN 1 AND 64", name="concurrency_in_range"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), primary_key=True)
    base_url: Mapped[str] = mapped_column(comment="what /chat/completions is put behind, e.g. https://host/v1")
    model: Mapped[str] = mapped_column(comment="the name to ask for; never changed: another model is another version")
    key_variable: Mapped[str] = mapped_column(
        server_default="", comment="environment variable that holds the key; empty: none is sent"
    )
    concurrency: Mapped[int] = mapped_column(server_default=text("4"), comment="requests at once, per worker process")
    gives_n: Mapped[bool] = mapped_column(
        server_default=text("true"), comment="whether one request may ask for several completions"
    )
    checked_at: Mapped[datetime | None]
    check_passed: Mapped[bool | None]
    check_message: Mapped[str] = mapped_column(server_default="", comment="what it answered when last checked")

    version: Mapped[ModelVersion] = relationship(back_populates="endpoint")


class Alias(StrEnum):
    """Names under which a line serves."""

    CURRENT = "current"
    CANDIDATE = "candidate"


class Deployment(Base):
    """An alias of a line pointing at a version, from `since` until the next one (`until` null: now)."""

    __tablename__ = "deployments"
    __table_args__ = (
        Index("uq_deployments_open", "line_id", "alias", unique=True, postgresql_where=text("until IS NULL")),
        ForeignKeyConstraint(["line_id", "version_id"], ["model_versions.line_id", "model_versions.id"]),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("model_lines.id"))
    alias: Mapped[Alias] = mapped_column(stored_by_value(Alias))
    version_id: Mapped[int]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    reason: Mapped[str]
    by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), comment="null: the system itself")

    line: Mapped[ModelLine] = relationship(overlaps="version")
    version: Mapped[ModelVersion] = relationship(
        foreign_keys="Deployment.version_id", primaryjoin="Deployment.version_id == ModelVersion.id"
    )
    by: Mapped[User | None] = relationship()
