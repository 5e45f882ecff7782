"""The pages of runs: the Train button, a run's progress and report, cancelling, deploying, overriding the gate."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.accounts.access import CurrentPerson
from app.campaigns.access import ReadableCampaign
from app.clock import Now
from app.database import DbSession
from app.deployments.models import ModelLine
from app.errors import Conflict, Invalid
from app.forms import Submission, submitted
from app.live.announcing import topic
from app.live.stream import follow
from app.templating import is_htmx, render
from app.training.access import ManagedRun, ReadableLine, ReadableRun, TrainableLine, TrainableRun, visible_lines
from app.training.comparing import has_others
from app.training.looking import run_page, run_rows
from app.training.models import Run
from app.training.schemas import OverrideForm, RunForm, method_title
from app.training.service.deciding import deploy_passed, override_gate
from app.training.service.requesting import readiness, request_run, start_choices
from app.training.service.scheduling import find_due
from app.training.service.steering import cancel_run, continue_run, pause_run
from app.training.settings_named import choices_of, titles
from app.training.views.lines import TheSettings
from app.wording import gettext as _
from trainer.contract.run import Method

router = APIRouter()


@router.get("/runs", name="training:index")
def index(request: Request, person: CurrentPerson, session: DbSession) -> Response:
    """The runs on every line that this person may see, and a way to start one."""
    lines = visible_lines(session, person=person)
    ready = [(line, readiness(session, line=line)) for line in lines]
    due = [(line, each, find_due(session, line=line, ready=each)) for line, each in ready]
    return render(request, "training/index.html", rows=run_rows(session, lines), lines=due)


@router.get("/campaigns/{campaign_id}/training", name="training:campaign")
def of_campaign(request: Request, campaign: ReadableCampaign, session: DbSession) -> Response:
    """What there is to train on, and the Train button: a part of the campaign's page, or a page of its own."""
    line = campaign.line
    ready = readiness(session, line=line) if line is not None else None
    due = find_due(session, line=line, ready=ready) if line is not None and ready is not None else None
    template = "training/_campaign_training.html" if is_htmx(request) else "training/campaign.html"
    return render(request, template, campaign=campaign, line=line, ready=ready, due=due)


@router.get("/models/{line_id}/training", name="training:new")
def new(request: Request, line: ReadableLine, session: DbSession) -> Response:
    """The form that starts a run, with everything that can be set."""
    defaults = RunForm().typed()
    return _form(request, session, line, Submission(typed=defaults))


@router.post("/models/{line_id}/runs", name="training:request")
def request_training(
    *,
    request: Request,
    line: TrainableLine,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[RunForm], submitted(RunForm)],
) -> Response:
    """Start a run, or show the form again with what stands against it."""
    if form.value is not None:
        try:
            run = request_run(
                session,
                line=line,
                person=person,
                now=now,
                method=form.value.method,
                hyperparameters=form.value.hyperparameters(),
                budget=form.value.budget(),
                seed=form.value.seed,
                start=form.value.start,
                deploys_when_passed=not form.value.holds_back,
            )
        except (Invalid, Conflict) as error:
            form = form.refused(form=error.message)
        else:
            return _to_run(request, run)
    return _form(request, session, line, form, status=422)


def _form(
    request: Request, session: DbSession, line: ModelLine, form: Submission[RunForm], *, status: int = 200
) -> Response:
    typed = {**RunForm().typed(), **form.typed}
    shown = Submission[RunForm](typed=typed, value=form.value, errors=form.errors)
    return render(
        request,
        "training/new.html",
        status=status,
        line=line,
        ready=readiness(session, line=line),
        choices=start_choices(session, line=line),
        methods=[(method.value, method_title(method)) for method in Method],
        titles=titles(),
        choices_of=choices_of,
        form=shown,
    )


@router.get("/runs/{run_id}", name="training:show")
def show(
    *,
    request: Request,
    run: ReadableRun,
    person: CurrentPerson,
    session: DbSession,
    settings: TheSettings,
    now: Now,
) -> Response:
    """A run: how far it is, or how it ended. Asked again whenever it changes."""
    form: Submission[OverrideForm] = Submission(typed={})
    page = run_page(session, settings, run, person=person, now=now)
    if is_htmx(request):
        return render(request, "training/_run.html", page=page, form=form)
    return render(request, "training/show.html", page=page, form=form, has_others=has_others(session, run))


@router.get("/runs/{run_id}/events", name="training:events")
async def events(request: Request, run: ReadableRun) -> Response:
    """When the run gets further, and when something else serves on its line."""
    return follow(request, [topic("run", run.id), topic("line", run.line_id)])


@router.post("/runs/{run_id}/cancellation", name="training:cancel")
def cancel(request: Request, run: TrainableRun, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """Call a run off."""
    cancel_run(session, run=run, by_id=person.id, now=now)
    return _to_run(request, run)


@router.post("/runs/{run_id}/pause", name="training:pause")
def pause(request: Request, run: ManagedRun, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """Have a run wait."""
    pause_run(session, run=run, by_id=person.id, now=now)
    return _to_run(request, run)


@router.post("/runs/{run_id}/continuation", name="training:continue")
def go_on(request: Request, run: ManagedRun, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """Let a paused run go on."""
    continue_run(session, run=run, by_id=person.id, now=now)
    return _to_run(request, run)


@router.post("/runs/{run_id}/deployment", name="training:deploy")
def deploy(request: Request, run: ManagedRun, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """Let the run's version serve, if the gate has let it pass."""
    if run.model_version is None:
        raise Conflict(_("This run has made no version, so there is nothing to deploy."))
    deploy_passed(session, version=run.model_version, by_id=person.id, now=now)
    return _to_run(request, run)


@router.post("/runs/{run_id}/override", name="training:override")
def override(
    *,
    request: Request,
    run: ManagedRun,
    person: CurrentPerson,
    session: DbSession,
    settings: TheSettings,
    now: Now,
    form: Annotated[Submission[OverrideForm], submitted(OverrideForm)],
) -> Response:
    """Let a version serve that the gate refused, with the reason that its manager wrote."""
    try:
        override_gate(session, run=run, by_id=person.id, reason=form.checked().reason, now=now)
    except Invalid as error:
        form = form.refused(reason=error.message)
        page = run_page(session, settings, run, person=person, now=now)
        others = has_others(session, run)
        return render(request, "training/show.html", status=422, page=page, form=form, has_others=others)
    return _to_run(request, run)


def _to_run(request: Request, run: Run) -> Response:
    return RedirectResponse(request.app.url_path_for("training:show", run_id=run.id), status_code=303)
