"""`palate train` and `palate deploy`: what the pages of runs and models do, from a terminal."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts.service.people import get_user_by_email
from app.accounts.service.sign_ins import Person
from app.clock import utc_now
from app.commands.surroundings import command_database, console, named_line, share_bar
from app.database import SessionFactory
from app.deployments.models import ModelLine, ModelVersion
from app.deployments.service import list_versions, refuse_reward_model, roll_back
from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.forms import validated
from app.training.access import may_manage
from app.training.gate.judging import is_blocked
from app.training.models import Run, RunState
from app.training.schemas import RunForm
from app.training.service.deciding import checks_of, deploy_passed, find_run_of, override_gate
from app.training.service.requesting import request_run
from trainer.contract.run import Hyperparameters, Method, Tuning
from trainer.contract.server import version_name

cli = typer.Typer()

LOOK_SECONDS = 0.5
WORKER_SILENCE_SECONDS = 15
"""A worker that was not heard of for so long does not run; it reports every three seconds."""

NO_WORKER = (
    "No worker is running, so the run waits. Start everything with `palate up`, or the worker alone with "
    "`palate worker`, in another terminal."
)
DEFAULTS = Hyperparameters()


@cli.command()
def train(
    *,
    line: Annotated[str, typer.Option(help="Short name of the model line.")],
    seed: Annotated[int, typer.Option(help="Same judgments and seed: same run.")] = 0,
    epochs: Annotated[float, typer.Option(min=0.01, max=1000, help="Passes over the pairs.")] = DEFAULTS.epochs,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, max=1, help="Highest step size; by the size of the model where none is given."),
    ] = DEFAULTS.learning_rate,
    method: Annotated[Method, typer.Option(help="What is learnt from the judgments, and how.")] = Method.DPO,
    tuning: Annotated[Tuning, typer.Option(help="What is trained: all weights, or an adapter.")] = DEFAULTS.tuning,
    further: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the *Train* page. Repeat it for more."),
    ] = None,
    deploy: Annotated[bool, typer.Option(help="Whether the new version serves once it passes the gate.")] = True,
    wait: Annotated[bool, typer.Option(help="Whether to follow the run until it is over.")] = True,
) -> None:
    """Train a model line on all its judgments, and ask the gate.

    The worker carries the run out; Ctrl-C stops following it, not the run.

    Exits with 1 where the run fails or the gate refuses its version.
    """
    wanted = _settings(
        further or [], method=method, seed=seed, epochs=epochs, learning_rate=learning_rate, tuning=tuning
    )
    with command_database() as (_, sessions):
        with sessions.begin() as session:
            target = named_line(session, line)
            run = request_run(
                session, line=target, person=None, now=utc_now(), method=wanted.method,
                hyperparameters=wanted.hyperparameters(), budget=wanted.budget(), seed=wanted.seed, start=wanted.start,
                deploys_when_passed=deploy and not wanted.holds_back,
            )  # fmt: skip
            becomes = version_name(target.slug, run.version_number)
            has_worker = _worker_is_alive(session)
        console.print(f"Run {run.id} is requested; it makes {becomes}.", highlight=False)
        if not wait:
            if not has_worker:
                console.print(NO_WORKER, style="yellow", soft_wrap=True)
            return
        try:
            with share_bar() as bar:
                _follow(sessions, run.id, bar)
        except KeyboardInterrupt:
            console.print(f"Run {run.id} goes on without this terminal; its page shows how far it is.")
            return
        with sessions.begin() as session:
            is_good = _print_outcome(session.get_one(Run, run.id))
    if not is_good:
        raise typer.Exit(1)


def _settings(further: Sequence[str], **given: object) -> RunForm:
    """What the *Train* page would have asked for; raises Invalid naming the setting that is wrong."""
    typed = dict(given)
    for each in further:
        name, equals, value = (part.strip() for part in each.partition("="))
        if not equals or name not in RunForm.model_fields:
            known = ", ".join(sorted(RunForm.model_fields))
            raise Invalid(f"--set {each}: write the name of a setting, =, and its value. Settings: {known}.")
        typed[name] = value
    form = validated(RunForm, typed)
    if form.value is None:
        raise Invalid(" ".join(f"{name} = {typed.get(name)}: {fault}" for name, fault in form.errors.items()))
    return form.value


def _follow(sessions: SessionFactory, run_id: int, bar: Progress) -> None:
    """Show how far a run is until it is over; say once where nobody carries it out."""
    task = bar.add_task("Waiting for the worker", total=1.0)
    has_warned = False
    while not _shown(sessions, run_id, bar, task):
        if not has_warned:
            with sessions.begin() as session:
                has_warned = not _worker_is_alive(session)
            if has_warned:
                console.print(NO_WORKER, style="yellow", soft_wrap=True)
        time.sleep(LOOK_SECONDS)


def _shown(sessions: SessionFactory, run_id: int, bar: Progress, task: TaskID) -> bool:
    """Bring the bar up to date; whether the run is over."""
    with sessions.begin() as session:
        run = session.get_one(Run, run_id)
        bar.update(task, completed=run.fraction, description=escape(run.message or run.state.value))
        return run.state.is_over


def _worker_is_alive(session: Session) -> bool:
    heard = text(
        "SELECT EXISTS (SELECT FROM procrastinate_workers "
        "WHERE last_heartbeat > now() - make_interval(secs => :seconds))"
    )
    return bool(session.scalar(heard, {"seconds": WORKER_SILENCE_SECONDS}))


def _print_outcome(run: Run) -> bool:
    """Print how a run ended and what the gate found; whether it made a version that may serve."""
    console.print(f"Run {run.id} {run.state.value}. {escape(run.message)}", soft_wrap=True, highlight=False)
    if run.state is not RunState.SUCCEEDED:
        if run.state is RunState.FAILED and run.log:
            console.print("The trainer's log ends with:", style="dim")
            console.print("\n".join(run.log.splitlines()[-8:]), markup=False, highlight=False, style="dim")
        return False
    checks = checks_of(run)
    for check in checks:
        effect = ", [red]blocks[/red]" if check.blocks else ", [yellow]warns[/yellow]" if check.warns else ""
        said = f"[bold]{escape(check.title)}[/bold] ({check.verdict.value}{effect}): {escape(check.message)}"
        console.print(said, soft_wrap=True, highlight=False)
    return not is_blocked(checks)


@cli.command()
def deploy(
    version: Annotated[str | None, typer.Argument(help="Name of a model version, such as starter-v2.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "",
    override_reason: Annotated[
        str | None, typer.Option(help="Why it should serve although the gate refused it; needs --as.")
    ] = None,
    manager: Annotated[str | None, typer.Option("--as", help="Email of the manager who overrides the gate.")] = None,
    back: Annotated[
        str | None, typer.Option("--back", help="Instead: roll this model line back to the version before.")
    ] = None,
) -> None:
    """Let a model version serve, or roll a model line back.

    What the gate refused serves only on the word of a manager, who goes on record: --override-reason and --as.
    """
    if (version is None) == (back is None):
        raise Invalid("Say what should serve: either the name of a version, or --back with a model line.")
    if (override_reason is None) != (manager is None):
        raise Invalid("Overriding the gate takes both --override-reason and --as with the email of a manager.")
    if back is not None and override_reason is not None:
        raise Invalid("Rolling back asks no gate, so leave out --override-reason and --as.")
    with command_database() as (_, sessions), sessions.begin() as session:
        if back is not None:
            target = named_line(session, back)
            chosen = roll_back(session, line_id=target.id, by_id=None, now=utc_now(), reason=reason).version
        else:
            chosen = _named_version(session, version or "")
            _deploy(session, chosen, reason=reason, override_reason=override_reason, manager=manager)
        console.print(f"{chosen.name} serves as current of {escape(chosen.line.name)}.", highlight=False)
        if not _worker_is_alive(session):
            told = "No worker is running: the model server is told once one starts (`palate up` or `palate worker`)."
            console.print(told, style="yellow", soft_wrap=True)


def _deploy(
    session: Session, version: ModelVersion, *, reason: str, override_reason: str | None, manager: str | None
) -> None:
    """Deploy through the gate, or past it on the word of a manager."""
    refuse_reward_model(version)
    if not version.is_elsewhere and not Path(version.path).is_dir():
        raise NotFound(f"The weights of {version.name} are not at {version.path}. Put them back, then deploy again.")
    if override_reason is None or manager is None:
        _deploy_passed(session, version, reason=reason)
        return
    user = get_user_by_email(session, manager)
    person = Person(id=user.id, name=user.name, email=user.email, role=user.role)
    if not user.is_active or not may_manage(session, line_id=version.line_id, person=person):
        raise Forbidden(f"{user.email} manages no campaign on {version.line.name}, so cannot override its gate.")
    run = find_run_of(session, version=version)
    if run is None:
        raise Conflict(f"{version.name} came from no run, so no gate refused it. Deploy it without an override.")
    override_gate(session, run=run, by_id=user.id, reason=override_reason, now=utc_now())


def _deploy_passed(session: Session, version: ModelVersion, *, reason: str) -> None:
    try:
        deploy_passed(session, version=version, by_id=None, now=utc_now(), reason=reason or "From the command line.")
    except Conflict as error:
        how = f'Here: `palate deploy {version.name} --override-reason "…" --as EMAIL`.'
        raise Conflict(f"{error.message} {how}") from error


def _named_version(session: Session, name: str) -> ModelVersion:
    """A version by its name; raises NotFound with the ones there are."""
    lines = session.scalars(select(ModelLine).order_by(ModelLine.id))
    versions = [version for line in lines for version in list_versions(session, line_id=line.id)]
    for version in versions:
        if version.name == name:
            return version
    known = ", ".join(version.name for version in versions) or "none yet"
    raise NotFound(f"There is no model version {name!r}. Versions: {known}.")
