"""Runs and versions of a line side by side: what was asked, what came of it, where they differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.accounts.service.sign_ins import Person
from app.deployments.models import ModelLine, ModelVersion
from app.deployments.service import list_writers
from app.training.chart import Chart
from app.training.curves import left_out, overlaid_charts
from app.training.gate.checks import Check
from app.training.gate.judging import is_blocked
from app.training.looking import figures_of, visible_samples, watched_samples
from app.training.models import Run
from app.training.schemas import method_title
from app.training.service.deciding import checks_of
from app.training.settings_named import settled, title_of, told
from app.wording import gettext as _
from trainer.contract.base import Message
from trainer.contract.report import Report, Sample
from trainer.contract.run import Hyperparameters, Method, MetricsRow
from trainer.contract.watching import WatchedSample

MOST_COLUMNS = 6

_WRITES = Run.method != Method.REWARD_MODEL
"""What is compared. A reward model has neither samples nor probes, and its losses are of another kind."""


@dataclass(frozen=True)
class Column:
    """A run, or a version that came from none: a base."""

    run: Run | None
    version: ModelVersion | None
    report: Report | None
    checks: list[Check] = field(default_factory=list)
    samples: dict[str, Sequence[Sample | WatchedSample]] = field(default_factory=dict)
    prompts: dict[str, list[Message]] = field(default_factory=dict)
    """What the samples were written for."""
    probes: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """Answer to each probe prompt, and whether it passed."""

    @property
    def title(self) -> str:
        """What it is called, short."""
        if self.version is not None:
            return self.version.name
        assert self.run is not None
        return _("Run %(id)s", id=self.run.id)

    @property
    def refused(self) -> bool:
        """Whether the gate holds it back."""
        return is_blocked(self.checks)


@dataclass(frozen=True)
class Row:
    """One thing about every column, as text, and whether they differ in it."""

    name: str
    values: list[str]
    differs: bool


@dataclass(frozen=True)
class Asked:
    """What was asked of every column, and what each wrote: texts of a sample, or the answer to a probe prompt."""

    prompt: list[Message]
    answers: list[Sequence[Sample | WatchedSample]]


@dataclass(frozen=True)
class Side:
    """The page of several columns side by side."""

    columns: list[Column]
    settings: list[Row]
    counts: list[Row]
    charts: list[Chart]
    """Of all that have curves, on the same axes."""
    not_drawn: list[tuple[str, list[str]]]
    """What would not compare on the same axes, and the settings that are to blame."""
    figures: list[Row]
    gate: list[tuple[str, list[Check | None]]]
    probes: list[tuple[str, list[tuple[str, bool] | None]]]
    samples: list[Asked]


def side_by_side(
    session: Session, line: ModelLine, *, run_ids: Sequence[int], version_ids: Sequence[int], person: Person
) -> Side:
    """The runs and versions with these ids as far as they are the line's, in the order of their making."""
    runs = _runs(session, line, run_ids=run_ids, version_ids=version_ids)
    made = {run.model_version_id for run in runs}
    bases = [
        version for version in reversed(list_writers(session, line_id=line.id)) if version.id in set(version_ids) - made
    ]
    columns = [_run_column(session, run, person=person) for run in runs]
    columns = ([_base_column(base, columns) for base in bases] + columns)[:MOST_COLUMNS]
    drawn = [(column.title, column.run) for column in columns if column.run is not None and column.run.metrics]
    differing = _differing([run for _title, run in drawn])
    return Side(
        columns=columns,
        settings=_rows(columns, _settings),
        counts=_rows(columns, _counts),
        charts=overlaid_charts([(title, _curve(run)) for title, run in drawn], differing=differing),
        not_drawn=[(title, [title_of(name) for name in names]) for title, names in left_out(differing)],
        figures=_rows(columns, _figures),
        gate=_gate(columns),
        probes=_probes(columns),
        samples=_samples(columns),
    )


def _runs(session: Session, line: ModelLine, *, run_ids: Sequence[int], version_ids: Sequence[int]) -> list[Run]:
    chosen = Run.id.in_(list(run_ids)) | Run.model_version_id.in_(list(version_ids))
    loaded = (joinedload(Run.snapshot), joinedload(Run.start_version), joinedload(Run.reference_version))
    query = (
        select(Run)
        .where(Run.line_id == line.id, chosen, _WRITES)
        .order_by(Run.id)
        .options(*loaded, joinedload(Run.model_version))
        .limit(MOST_COLUMNS)
    )
    return list(session.scalars(query))


def _run_column(session: Session, run: Run, *, person: Person) -> Column:
    report = Report.model_validate(run.report) if run.report else None
    seen = visible_samples(session, report, person=person, line_id=run.line_id) if report else []
    watched = watched_samples(session, run, person=person)
    rows = [row for row in watched.rows if row.since] if watched else []
    written: dict[str, Sequence[Sample | WatchedSample]] = {row.prompt_id: row.since[-1] for row in rows}
    return Column(
        run=run,
        version=run.model_version,
        report=report,
        checks=checks_of(run),
        samples=written | {sample.prompt_id: sample.after for sample in seen if sample.after},
        prompts={row.prompt_id: row.prompt for row in rows} | {sample.prompt_id: sample.prompt for sample in seen},
        probes={probe.name: (probe.after, probe.passed_after) for probe in report.probes} if report else {},
    )


def _base_column(base: ModelVersion, others: Sequence[Column]) -> Column:
    """A base as a run that started from it measured it before training; nothing where none of these did."""
    for other in others:
        if other.report is not None and other.run is not None and other.run.start_version_id == base.id:
            report = other.report
            seen = [each for each in report.samples if each.prompt_id in other.prompts]
            probes = {probe.name: (probe.before, probe.passed_before) for probe in report.probes}
            return Column(
                run=None,
                version=base,
                report=report,
                samples={each.prompt_id: each.before for each in seen},
                prompts={each.prompt_id: each.prompt for each in seen},
                probes=probes,
            )
    return Column(run=None, version=base, report=None)


def has_others(session: Session, run: Run) -> bool:
    """Whether there is another run on the line to compare this one with."""
    others = select(Run.id).where(Run.line_id == run.line_id, Run.id != run.id, _WRITES)
    return not run.trains_reward_model and session.scalar(others.limit(1)) is not None


def _curve(run: Run) -> list[MetricsRow]:
    return [MetricsRow.model_validate(row) for row in run.metrics]


def _differing(runs: Sequence[Run]) -> set[str]:
    """Settings that are not the same in all runs, by name; what an older run did not know has its default."""
    asked = [
        {
            **Hyperparameters.model_validate(run.hyperparameters).model_dump(),
            "method": run.method,
            "reference": run.reference_version_id,
        }
        for run in runs
    ]
    return {name for each in asked for name in each if each[name] != asked[0][name]}


# --- Rows


def _rows(columns: Sequence[Column], of: Any) -> list[Row]:
    """A row for every name that any column has; a column without it has a dash. Bases do not count as differing."""
    told: list[dict[str, str]] = [of(column) for column in columns]
    names = list(dict.fromkeys(name for each in told for name in each))
    rows = []
    for name in names:
        of_runs = {each.get(name) for column, each in zip(columns, told, strict=True) if column.run is not None}
        rows.append(Row(name, [each.get(name, "–") for each in told], differs=len(of_runs) > 1))
    return rows


def _settings(column: Column) -> dict[str, str]:
    run = column.run
    if run is None:
        return {}
    asked = {**settled(run.hyperparameters, run.report), **run.budget}
    given = {title_of(name): told(name, value) for name, value in asked.items() if value is not None}
    start = {
        title_of("method"): method_title(run.method),
        _("Start"): run.start_version.name,
        title_of("reference"): run.reference_version.name,
    }
    return {**start, **given, title_of("seed"): str(run.seed)}


def _counts(column: Column) -> dict[str, str]:
    run, report = column.run, column.report
    if run is None:
        return {}
    told = {_("Snapshot"): run.snapshot.name}
    if report is not None:
        told |= {
            _("Training pairs"): f"{report.train_pairs:,}",
            _("Held-out pairs"): f"{report.held_out_pairs:,}",
            _("Steps"): f"{report.steps:,}",
            _("Seconds"): f"{sum(report.seconds.values()):.0f}",
        }
    return told


def _figures(column: Column) -> dict[str, str]:
    if column.report is None:
        return {}
    figures = figures_of(column.report)
    if column.run is None:
        return {figure.name: figure.before for figure in figures}
    return {
        figure.name: figure.after if figure.before == "–" else f"{figure.before} → {figure.after}" for figure in figures
    }


def _gate(columns: Sequence[Column]) -> list[tuple[str, list[Check | None]]]:
    by_name = [{check.name: check for check in column.checks} for column in columns]
    titles = {check.name: check.title for column in columns for check in column.checks}
    return [(title, [each.get(name) for each in by_name]) for name, title in titles.items()]


def _probes(columns: Sequence[Column]) -> list[tuple[str, list[tuple[str, bool] | None]]]:
    reports = [column.report for column in columns if column.report is not None]
    prompts = {probe.name: probe.prompt[-1].content for report in reports for probe in report.probes}
    return [(prompt, [column.probes.get(name) for column in columns]) for name, prompt in prompts.items()]


def _samples(columns: Sequence[Column]) -> list[Asked]:
    """Prompts that most columns answered come first: those are what can be compared."""
    prompts = {name: prompt for column in columns for name, prompt in column.prompts.items()}
    seen = [name for name in prompts if any(column.samples.get(name) for column in columns)]
    seen.sort(key=lambda name: -sum(name in column.samples for column in columns))
    return [Asked(prompts[name], [column.samples.get(name, []) for column in columns]) for name in seen]
