"""Tables of training runs, gate overrides and probe prompts."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.accounts.models import User
from app.database import Base, stored_by_value
from app.datasets.models import Snapshot
from app.deployments.models import ModelLine, ModelVersion
from trainer.contract.run import Method


class RunState(StrEnum):
    """Where a run is; the first two are under way."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {RunState.WAITING, RunState.RUNNING}


class Run(Base):
    """One training. Once over it is never edited."""

    __tablename__ = "runs"
    __table_args__ = (
        Index(
            "uq_runs_under_way",
            "line_id",
            unique=True,
            postgresql_where=text("state IN ('waiting', 'running')"),
        ),
        CheckConstraint("state <> 'succeeded' OR model_version_id IS NOT NULL", name="success_registers_a_version"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("model_lines.id"))
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"))
    base_version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    start_version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    reference_version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    state: Mapped[RunState] = mapped_column(stored_by_value(RunState))
    method: Mapped[str]
    hyperparameters: Mapped[dict[str, Any]] = mapped_column(comment="trainer.contract.Hyperparameters")
    budget: Mapped[dict[str, Any]] = mapped_column(comment="trainer.contract.Budget")
    seed: Mapped[int] = mapped_column(BigInteger)
    version_number: Mapped[int] = mapped_column(comment="number that the version will have in its line")
    fraction: Mapped[float] = mapped_column(server_default=text("0"), comment="done so far, 0 to 1")
    message: Mapped[str] = mapped_column(server_default="", comment="what it does, or why it ended")
    metrics: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'"), comment="trainer.contract.MetricsRow, thinned: for the chart"
    )
    latest: Mapped[dict[str, Any] | None] = mapped_column(
        JSONB(none_as_null=True), comment="trainer.contract.MetricsRow, the newest: where the run is"
    )
    samples: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'"), comment="trainer.contract.WatchedSamples, some evaluations of them", deferred=True
    )
    warnings: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'"), comment="app.training.warning_signs.Warned, in order of their first step"
    )
    log: Mapped[str] = mapped_column(server_default="", comment="the end of the trainer's log")
    deploys_when_passed: Mapped[bool] = mapped_column(server_default=text("true"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    pause_requested: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="the trainer waits, or left with a checkpoint, until taken back",
    )
    report: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), comment="trainer.contract.Report")
    gate: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True), comment="the gate's checks, as decided")
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"), unique=True)
    requested_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    line: Mapped[ModelLine] = relationship()
    snapshot: Mapped[Snapshot] = relationship()
    base_version: Mapped[ModelVersion] = relationship(foreign_keys="Run.base_version_id")
    reference_version: Mapped[ModelVersion] = relationship(foreign_keys="Run.reference_version_id")
    start_version: Mapped[ModelVersion] = relationship(foreign_keys="Run.start_version_id")
    model_version: Mapped[ModelVersion | None] = relationship(foreign_keys="Run.model_version_id")
    requested_by: Mapped[User | None] = relationship()

    @property
    def trains_reward_model(self) -> bool:
        """Whether what it makes gives rewards instead of writing."""
        return self.method == Method.REWARD_MODEL

    @property
    def is_paused(self) -> bool:
        """Whether it is under way and waits for somebody to continue it."""
        return self.pause_requested and not self.state.is_over


class GateOverride(Base):
    """A manager's decision to deploy what the gate refused, with the reason they wrote."""

    __tablename__ = "gate_overrides"
    __table_args__ = (CheckConstraint("length(trim(reason)) >= 10", name="reason_says_something"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), unique=True)
    by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str]
    at: Mapped[datetime]

    run: Mapped[Run] = relationship()
    by: Mapped[User] = relationship()


class LineProbe(Base):
    """A probe prompt of a line: what every version must still be able to do."""

    __tablename__ = "line_probes"
    __table_args__ = (UniqueConstraint("line_id", "name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    line_id: Mapped[int] = mapped_column(ForeignKey("model_lines.id"))
    name: Mapped[str]
    probe: Mapped[dict[str, Any]] = mapped_column(comment="trainer.contract.ProbePrompt")


class LineSchedule(Base):
    """After how many new judgments a line trains by itself; a line without one is trained by hand alone."""

    __tablename__ = "line_schedules"
    __table_args__ = (CheckConstraint("every_judgments > 0", name="every_so_many"),)

    line_id: Mapped[int] = mapped_column(ForeignKey("model_lines.id"), primary_key=True)
    every_judgments: Mapped[int] = mapped_column(comment="new judgments in force after which a run starts")
    set_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime]
