"""The Models pages: lines, their versions, what serves; deploying, rolling back, registering a model folder.

They stand here and not in deployments because a person's part in a line follows from campaigns.
"""

import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.access import CurrentAdmin, CurrentPerson
from app.campaigns.service.sources import BEYOND_IDS
from app.clock import Now
from app.database import DbSession
from app.deployments.model_folders import checked_folder, found_folders
from app.deployments.models import ModelVersion
from app.deployments.service import base_version, create_line, get_version, roll_back
from app.errors import Conflict, Invalid, NotFound
from app.forms import Submission, submitted
from app.live.announcing import topic
from app.live.stream import follow
from app.settings import Settings
from app.templating import render
from app.training.access import ManagedLine, ReadableLine, visible_lines
from app.training.comparing import MOST_COLUMNS, side_by_side
from app.training.looking import line_cards, line_page, run_rows, serving_of
from app.training.schemas import DeployForm, LineForm, ScheduleForm
from app.training.service.deciding import deploy_passed
from app.training.service.scheduling import set_schedule
from app.wording import gettext as _

router = APIRouter()


def settings_of(request: Request) -> Settings:
    """The settings that the app was created with."""
    settings: Settings = request.app.state.settings
    return settings


TheSettings = Annotated[Settings, Depends(settings_of)]


@router.get("/models", name="deployments:index")
def index(request: Request, person: CurrentPerson, session: DbSession, settings: TheSettings) -> Response:
    """Every line that this person may see."""
    cards = line_cards(session, settings, visible_lines(session, person=person), person=person)
    return render(request, "deployments/index.html", cards=cards)


@router.get("/models/new", name="deployments:new")
def new(request: Request, person: CurrentAdmin, session: DbSession, settings: TheSettings, path: str = "") -> Response:
    """The form that makes a model folder a line, filled in for the folder at `path`."""
    name = Path(path).name.replace("\0", "")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return _new_line(request, session, settings, Submission(typed={"path": path, "name": name, "slug": slug}))


@router.post("/models", name="deployments:register")
def register(
    *,
    request: Request,
    person: CurrentAdmin,
    session: DbSession,
    settings: TheSettings,
    now: Now,
    form: Annotated[Submission[LineForm], submitted(LineForm)],
) -> Response:
    """Make a model folder a line, or say what is wrong with it."""
    if form.value is not None:
        wanted = form.value
        session.commit()  # gives the connection back: reading all weights takes a while
        try:
            folder = checked_folder(wanted.path, roots=settings.allowed_model_roots)
        except Invalid as error:
            form = form.refused(path=error.message)
        else:
            try:
                line = create_line(
                    session,
                    slug=wanted.slug,
                    name=wanted.name,
                    description=wanted.description,
                    is_toy=wanted.is_toy,
                    path=str(folder.path),
                    sha256=folder.sha256,
                    by_id=person.id,
                    now=now,
                )
            except Conflict as error:
                form = form.refused(slug=error.message)
            else:
                return _to_line(request, line.id)
    return _new_line(request, session, settings, form, status=422)


def _new_line(
    request: Request, session: Session, settings: Settings, form: Submission[LineForm], *, status: int = 200
) -> Response:
    roots = settings.allowed_model_roots
    taken = set(session.scalars(select(ModelVersion.path)))
    folders = found_folders(roots, taken=taken)
    return render(request, "deployments/new.html", status=status, form=form, roots=roots, folders=folders)


@router.get("/models/events", name="deployments:events")
def events(request: Request, person: CurrentPerson, session: DbSession) -> Response:
    """When something changes on any line that this person may see."""
    return follow(request, [topic("line", line.id) for line in visible_lines(session, person=person)])


@router.get("/models/{line_id}", name="deployments:show")
def show(
    request: Request, line: ReadableLine, person: CurrentPerson, session: DbSession, settings: TheSettings
) -> Response:
    """A line: its versions, and what served when and why."""
    page = line_page(session, settings, line, person=person)
    return render(request, "deployments/show.html", page=page, form=None)


@router.post("/models/{line_id}/schedule", name="training:schedule")
def schedule(
    *,
    request: Request,
    line: ManagedLine,
    person: CurrentPerson,
    session: DbSession,
    settings: TheSettings,
    now: Now,
    form: Annotated[Submission[ScheduleForm], submitted(ScheduleForm)],
) -> Response:
    """Have the line train by itself after so many new judgments, or no more."""
    if form.value is not None:
        every = None if form.value.off else form.value.every
        try:
            set_schedule(session, line=line, every=every, by_id=person.id, now=now)
        except Invalid as error:
            form = form.refused(every=error.message)
        else:
            return _to_line(request, line.id)
    page = line_page(session, settings, line, person=person)
    return render(request, "deployments/show.html", status=422, page=page, form=form)


@router.get("/models/{line_id}/comparison", name="training:compare")
def compare(
    *,
    request: Request,
    line: ReadableLine,
    person: CurrentPerson,
    session: DbSession,
    run: Annotated[list[int], Query()] = [],  # noqa: B006  (FastAPI copies it)
    version: Annotated[list[int], Query()] = [],  # noqa: B006
) -> Response:
    """Runs and versions of the line side by side; without any, the list to choose them from."""
    runs, versions = ([each for each in ids if 0 < each < BEYOND_IDS] for ids in (run, version))
    side = side_by_side(session, line, run_ids=runs, version_ids=versions, person=person)
    every = run_rows(session, [line])
    reward_models = [row.run for row in every if row.run.trains_reward_model]
    return render(
        request,
        "training/compare.html",
        line=line,
        side=side,
        rows=[row for row in every if not row.run.trains_reward_model],
        reward_models=reward_models,
        not_shown=[each for each in reward_models if each.id in runs or each.model_version_id in versions],
        base=base_version(session, line_id=line.id),
        most=MOST_COLUMNS,
    )


@router.get("/models/{line_id}/serving", name="deployments:serving")
def serving(request: Request, line: ReadableLine, session: DbSession, settings: TheSettings) -> Response:
    """What serves on a line just now, for pages that wait for it."""
    return render(request, "deployments/_serving.html", serving=serving_of(settings, session, [line])[line.id])


@router.get("/models/{line_id}/events", name="deployments:events_of_line")
async def events_of_line(request: Request, line: ReadableLine) -> Response:
    """When something changes on a line."""
    return follow(request, [topic("line", line.id)])


@router.post("/models/{line_id}/deployment", name="deployments:deploy")
def deploy(
    *,
    request: Request,
    line: ManagedLine,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[DeployForm], submitted(DeployForm)],
) -> Response:
    """Let a version of the line serve, if the gate has let it pass."""
    wanted = form.checked()
    version = get_version(session, version_id=wanted.version_id)
    if version.line_id != line.id:
        raise NotFound(_("There is no such version on this line."))
    deploy_passed(session, version=version, by_id=person.id, now=now, reason=wanted.reason)
    return _to_line(request, line.id)


@router.post("/models/{line_id}/rollback", name="deployments:roll_back")
def go_back(request: Request, line: ManagedLine, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """Let the version serve that served before."""
    roll_back(session, line_id=line.id, by_id=person.id, now=now)
    return _to_line(request, line.id)


def _to_line(request: Request, line_id: int) -> Response:
    return RedirectResponse(request.app.url_path_for("deployments:show", line_id=line_id), status_code=303)
