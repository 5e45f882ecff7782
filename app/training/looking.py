"""What the pages of runs and lines show, gathered into values before any template sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.accounts.service.sign_ins import Person
from app.deployments.endpoints import find_endpoint
from app.deployments.model_server import ModelServerDown, ModelServerRefused, connected, wanted
from app.deployments.models import Alias, Deployment, Endpoint, ModelLine, ModelVersion
from app.deployments.service import (
    deployment_history,
    find_current_version,
    list_versions,
    previous_version,
)
from app.generation.models import Prompt
from app.settings import Settings
from app.training.access import may_manage, readable_campaign_ids
from app.training.chart import Chart
from app.training.curves import charts_of
from app.training.gate.checks import Check
from app.training.gate.judging import is_blocked
from app.training.models import GateOverride, Run
from app.training.reward_models import told_accuracy
from app.training.schemas import method_title
from app.training.service.deciding import checks_of, find_override
from app.training.service.scheduling import Due, find_due
from app.training.settings_named import settled, title_of, told
from app.training.standing import Standing, silent_since, stage_of, standings
from app.training.steered import Steered, steered
from app.training.warning_signs import Warned, last_evaluation
from app.training.watched import Watched, evaluations_of, watched_of
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.report import HeldOutDemonstrations, PromptSamples, Report
from trainer.contract.run import MetricsRow, Stage
from trainer.contract.server import ServerState

STAGES = {
    Stage.LOADING: N_("Loading"),
    Stage.BEFORE: N_("Measuring the start"),
    Stage.REFERENCE: N_("Asking the reference"),
    Stage.TRAINING: N_("Training"),
    Stage.AFTER: N_("Measuring the result"),
    Stage.WRITING: N_("Writing"),
}


# --- What serves


@dataclass(frozen=True)
class Serving:
    """What a line's current alias should point at, and what the model server says it does."""

    line: ModelLine
    should: str | None
    does: str | None
    problem: str | None
    """Why the model server cannot be asked; None where it answers."""
    loaded: list[str]
    refused: str | None = None
    """Why the model server did not load what should serve."""
    endpoint: Endpoint | None = None
    """Where the current version is asked if it lies on another server; then all else here says nothing."""

    @property
    def is_settled(self) -> bool:
        """Whether what should serve does, so that there is nothing to wait for."""
        return self.should == self.does


def serving_of(settings: Settings, session: Session, lines: Sequence[ModelLine]) -> dict[int, Serving]:
    """What serves on each line, asking the model server once."""
    aliases = wanted(session).aliases
    state: ServerState | None = None
    problem: str | None = None
    try:
        with connected(settings) as server:
            state = server.state()
    except (ModelServerDown, ModelServerRefused) as error:
        problem = error.message
    found = {}
    for line in lines:
        alias = line.alias(Alias.CURRENT)
        names = [version.name for version in state.versions] if state else []
        found[line.id] = Serving(
            line=line,
            should=aliases.get(alias),
            does=state.aliases.get(alias) if state else None,
            problem=problem,
            loaded=[name for name in names if name.rpartition("-v")[0] == line.slug],
            refused=state.refused.get(aliases.get(alias, "")) if state else None,
            endpoint=find_endpoint(session, line) if aliases.get(alias) is None else None,
        )
    return found


# --- Lines


@dataclass(frozen=True)
class LineCard:
    """A line on the Models page."""

    line: ModelLine
    current: ModelVersion | None
    before: ModelVersion | None
    versions: int
    serving: Serving
    may_manage: bool


def line_cards(session: Session, settings: Settings, lines: Sequence[ModelLine], *, person: Person) -> list[LineCard]:
    """The Models page, line by line."""
    serving = serving_of(settings, session, lines)
    return [
        LineCard(
            line=line,
            current=find_current_version(session, line_id=line.id),
            before=previous_version(session, line_id=line.id),
            versions=len(list_versions(session, line_id=line.id)),
            serving=serving[line.id],
            may_manage=may_manage(session, line_id=line.id, person=person),
        )
        for line in lines
    ]


@dataclass(frozen=True)
class VersionRow:
    """A version in its line's table. `refused`: by the gate, and nobody has overridden that."""

    version: ModelVersion
    run: Run | None
    is_current: bool
    refused: bool


@dataclass(frozen=True)
class LinePage:
    """The page of one line."""

    card: LineCard
    versions: list[VersionRow]
    history: Sequence[Deployment]
    due: Due | None
    """When it trains by itself; None where it does not."""


def line_page(session: Session, settings: Settings, line: ModelLine, *, person: Person) -> LinePage:
    """A line with its versions and all that served."""
    card = line_cards(session, settings, [line], person=person)[0]
    runs = {run.model_version_id: run for run in session.scalars(select(Run).where(Run.line_id == line.id))}
    overridden = set(
        session.scalars(select(GateOverride.run_id).join(Run, Run.id == GateOverride.run_id).where(Run.line == line))
    )
    rows = []
    for version in list_versions(session, line_id=line.id):
        run = runs.get(version.id)
        refused = run is not None and is_blocked(checks_of(run)) and run.id not in overridden
        is_current = card.current is not None and version.id == card.current.id
        rows.append(VersionRow(version=version, run=run, is_current=is_current, refused=refused))
    return LinePage(
        card=card,
        versions=rows,
        history=deployment_history(session, line_id=line.id),
        due=find_due(session, line=line),
    )


# --- Runs


@dataclass(frozen=True)
class RunRow:
    """A run in the list of runs."""

    run: Run
    refused: bool
    before: float | None
    after: float | None


def run_rows(session: Session, lines: Sequence[ModelLine], *, limit: int = 100) -> list[RunRow]:
    """The runs of these lines, newest first."""
    query = (
        select(Run)
        .where(Run.line_id.in_([line.id for line in lines]))
        .order_by(Run.id.desc())
        .limit(limit)
        .options(joinedload(Run.line), joinedload(Run.requested_by), joinedload(Run.model_version))
    )
    rows = []
    for run in session.scalars(query):
        checks = checks_of(run)
        before, after = _accuracies(run, checks)
        rows.append(RunRow(run=run, refused=is_blocked(checks), before=before, after=after))
    return rows


def _accuracies(run: Run, checks: Sequence[Check]) -> tuple[float | None, float | None]:
    """Held-out accuracy before and after: the gate's figures, or a reward model's own."""
    if run.trains_reward_model:
        results = (run.report or {}).get("reward_model") or {}
        before, after = results.get("before") or {}, results.get("after") or {}
        return before.get("accuracy"), after.get("accuracy")
    accuracy = next((check for check in checks if check.name == "held_out_accuracy"), None)
    return (accuracy.before, accuracy.after) if accuracy else (None, None)


@dataclass(frozen=True)
class Figure:
    """One figure of the report, before and after, as text."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class RunPage:
    """All that the page of a run shows."""

    run: Run
    method: str
    settings: list[tuple[str, str]]
    """What was asked for, by title, as people read it."""
    steered: list[Steered]
    stage: str | None
    silent_since: datetime | None
    """When something was last heard of a run that should be at work; None where there is nothing amiss."""
    metrics: list[MetricsRow]
    charts: list[Chart]
    standings: list[Standing]
    warnings: list[Warned]
    evaluated_step: int
    """The newest evaluation: a warning that was last due before it is no longer so."""
    watched: Watched | None
    report: Report | None
    figures: list[Figure]
    reward_model: list[str]
    """What a reward model learnt, in sentences; empty for any other run."""
    samples: list[PromptSamples]
    hidden_samples: int
    """Samples of campaigns in which this person has no part."""
    checks: list[Check]
    blocked: bool
    override: GateOverride | None
    is_current: bool
    before: ModelVersion | None
    serving: Serving | None
    may_manage: bool


def _settings(run: Run) -> list[tuple[str, str]]:
    rules = {name: run.budget.get(name) for name in ("stop_after_evaluations", "most_chosen_fall")}
    asked = {**settled(run.hyperparameters, run.report), **rules}
    return [(title_of(name), told(name, value)) for name, value in asked.items() if value is not None and value != {}]


def run_page(session: Session, settings: Settings, run: Run, *, person: Person, now: datetime) -> RunPage:
    """A run with its progress, its report and what may be done about it."""
    metrics = [MetricsRow.model_validate(row) for row in run.metrics]
    latest = MetricsRow.model_validate(run.latest) if run.latest else None
    stage = stage_of(run, metrics, latest)
    report = Report.model_validate(run.report) if run.report else None
    checks = checks_of(run)
    current = find_current_version(session, line_id=run.line_id)
    is_current = current is not None and current.id == run.model_version_id
    samples = visible_samples(session, report, person=person, line_id=run.line_id) if report else []
    return RunPage(
        run=run,
        method=method_title(run.method),
        settings=_settings(run),
        steered=steered(session, run),
        stage=_(STAGES[stage]) if stage else None,
        silent_since=silent_since(run, latest, now=now),
        metrics=metrics,
        charts=charts_of(metrics),
        standings=standings(run, metrics, latest, report=report, now=now),
        warnings=[Warned.model_validate(each) for each in run.warnings],
        evaluated_step=last_evaluation(metrics),
        watched=watched_samples(session, run, person=person),
        report=report,
        figures=figures_of(report) if report else [],
        reward_model=told_accuracy(report.reward_model) if report and report.reward_model else [],
        samples=samples,
        hidden_samples=len(report.samples) - len(samples) if report else 0,
        checks=checks,
        blocked=is_blocked(checks),
        override=find_override(session, run=run),
        is_current=is_current,
        before=previous_version(session, line_id=run.line_id) if is_current else None,
        serving=serving_of(settings, session, [run.line])[run.line_id] if is_current else None,
        may_manage=may_manage(session, line_id=run.line_id, person=person),
    )


def visible_samples(session: Session, report: Report, *, person: Person, line_id: int) -> list[PromptSamples]:
    """The samples of the report that a person may read."""
    names = [sample.prompt_id for sample in report.samples]
    visible = visible_prompts(session, names, person=person, line_id=line_id)
    return [sample for sample in report.samples if sample.prompt_id in visible]


def watched_samples(session: Session, run: Run, *, person: Person) -> Watched | None:
    """What was written while the run trained, as far as a person may read it."""
    evaluations = evaluations_of(run.samples)
    names = [prompt.prompt_id for evaluation in evaluations for prompt in evaluation.prompts]
    visible = visible_prompts(session, names, person=person, line_id=run.line_id)
    return watched_of(evaluations, visible=visible)


def visible_prompts(session: Session, names: Sequence[str], *, person: Person, line_id: int) -> set[str]:
    """Those prompts whose campaigns a person may read; a run takes the judgments of all of a line's."""
    if person.is_admin or not names:
        return set(names)
    ids = {int(name) for name in names if name.isdigit()}
    campaigns = readable_campaign_ids(session, person=person, line_id=line_id)
    query = select(Prompt.id).where(Prompt.id.in_(ids), Prompt.campaign_id.in_(campaigns))
    return {str(prompt_id) for prompt_id in session.scalars(query)}


def figures_of(report: Report) -> list[Figure]:
    """The report's figures side by side; empty where the run did not get to measure both."""
    if report.before is None or report.after is None:
        return []
    one, two = report.before.preferences, report.after.preferences
    old, new = report.before.behaviour, report.after.behaviour
    return [
        Figure(_("Held-out accuracy"), _share(one.accuracy), _share(two.accuracy)),
        Figure(_("Held-out accuracy, per token"), _share(one.normalised_accuracy), _share(two.normalised_accuracy)),
        Figure(_("Held-out accuracy of the implicit reward"), "–", _share(two.reward_accuracy)),
        *_demonstration_figure(report.before.demonstrations, report.after.demonstrations),
        Figure(_("Tokens per completion"), f"{old.mean_tokens:.1f}", f"{new.mean_tokens:.1f}"),
        Figure(_("Cut off at the token limit"), _share(old.unfinished_share), _share(new.unfinished_share)),
        Figure(_("Repetition within samples"), _share(old.repetition), _share(new.repetition)),
        Figure(_("Refusals and “I do not know”"), _share(old.refusal_share), _share(new.refusal_share)),
        Figure(_("Malformed text"), _share(old.malformed_share), _share(new.malformed_share)),
        Figure(_("Distinct samples per prompt"), _share(old.distinct_share), _share(new.distinct_share)),
        Figure(_("Drift from the reference, nats per token"), f"{old.drift:.3f}", f"{new.drift:.3f}"),
        *_reward_figure(old.reward, new.reward),
    ]


def _demonstration_figure(before: HeldOutDemonstrations | None, after: HeldOutDemonstrations | None) -> list[Figure]:
    """How likely what people wrote is; nothing where they wrote for no held-out prompt."""
    if before is None or after is None:
        return []
    name = _("Log-probability of held-out demonstrations, nats per token")
    return [Figure(name, f"{before.logp_per_token:.2f}", f"{after.logp_per_token:.2f}")]


def _reward_figure(before: float | None, after: float | None) -> list[Figure]:
    """The mean reward of samples; nothing where no reward model was asked."""
    if before is None or after is None:
        return []
    return [Figure(_("Reward of samples, by the line's reward model"), f"{before:+.2f}", f"{after:+.2f}")]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
