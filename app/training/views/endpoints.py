"""The pages of other servers: registering a model of one, changing how it is asked, and trying whether it answers."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentAdmin
from app.clock import Now
from app.database import DbSession
from app.deployments.endpoint_client import checked
from app.deployments.endpoints import (
    Asking,
    change_endpoint,
    note_check,
    register_endpoint,
    tidied_address,
    tidied_key_variable,
)
from app.deployments.models import Endpoint
from app.errors import Conflict, DomainError, Invalid, NotFound
from app.forms import Submission, submitted
from app.settings import KEY_PREFIX, Settings
from app.templating import render
from app.training.schemas import AskingForm, EndpointForm
from app.training.views.lines import TheSettings
from app.wording import gettext as _

router = APIRouter()


def any_endpoint(endpoint_id: int, _admin: CurrentAdmin, session: DbSession) -> Endpoint:
    """Any endpoint, for admins."""
    endpoint = session.get(Endpoint, endpoint_id)
    if endpoint is None:
        raise NotFound(_("There is no such server. It may have been named by mistake: look under Models."))
    return endpoint


TheEndpoint = Annotated[Endpoint, Depends(any_endpoint)]


@router.get("/models/endpoints/new", name="deployments:new_endpoint")
def new(request: Request, person: CurrentAdmin, settings: TheSettings) -> Response:
    """The form that makes a model of another server a line."""
    typed = {name: value for name, value in asdict(Asking(base_url="")).items() if value}
    return _form(request, settings, Submission[EndpointForm](typed=typed), endpoint=None)


@router.post("/models/endpoints", name="deployments:register_endpoint")
def register(
    *,
    request: Request,
    person: CurrentAdmin,
    session: DbSession,
    settings: TheSettings,
    now: Now,
    form: Annotated[Submission[EndpointForm], submitted(EndpointForm)],
) -> Response:
    """Make a model of another server a line, or say what is wrong with it."""
    form = _examined(settings, form)
    if form.value is not None:
        wanted = form.value
        try:
            line = register_endpoint(
                session,
                settings=settings,
                slug=wanted.slug,
                name=wanted.name,
                description=wanted.description,
                model=wanted.model,
                asking=wanted.asking(),
                by_id=person.id,
                now=now,
            )
        except Conflict as error:
            form = form.refused(slug=error.message)
        except Invalid as error:
            form = form.refused(form=error.message)
        else:
            return _to_line(request, line.id)
    return _form(request, settings, form, endpoint=None, status=422)


@router.get("/models/endpoints/{endpoint_id}", name="deployments:endpoint")
def edit(request: Request, endpoint: TheEndpoint, settings: TheSettings) -> Response:
    """The form that changes how a server is asked."""
    typed = {name: getattr(endpoint, name) for name in AskingForm.model_fields}
    return _form(request, settings, Submission[AskingForm](typed=typed), endpoint=endpoint)


@router.post("/models/endpoints/{endpoint_id}", name="deployments:change_endpoint")
def change(
    *,
    request: Request,
    endpoint: TheEndpoint,
    person: CurrentAdmin,
    session: DbSession,
    settings: TheSettings,
    now: Now,
    form: Annotated[Submission[AskingForm], submitted(AskingForm)],
) -> Response:
    """Ask the same model in another way."""
    form = _examined(settings, form)
    if form.value is None:
        return _form(request, settings, form, endpoint=endpoint, status=422)
    change_endpoint(session, settings=settings, endpoint=endpoint, asking=form.value.asking(), by_id=person.id, now=now)
    return _to_line(request, endpoint.version.line_id)


@router.post("/models/endpoints/{endpoint_id}/check", name="deployments:check_endpoint")
def check(request: Request, endpoint: TheEndpoint, session: DbSession, settings: TheSettings, now: Now) -> Response:
    """Ask the server for a word and keep what it answered."""
    _let_go(session)
    passed, message = checked(settings, endpoint)
    note_check(endpoint, passed=passed, message=message, now=now)
    return _to_line(request, endpoint.version.line_id)


def _let_go(session: Session) -> None:
    """Give the connection back: the server may take its time, and nothing has been changed yet."""
    session.commit()


def _examined(settings: Settings, form: Submission[Any]) -> Submission[Any]:
    """The form with what is wrong with address and variable beside them, as far as it was otherwise well filled in."""
    examined = {"base_url": lambda text: tidied_address(settings, text), "key_variable": tidied_key_variable}
    for name, look in examined.items():
        try:
            look(str(form.typed.get(name, "")))
        except DomainError as error:
            if name not in form.errors:
                form = form.refused(**{name: error.message})
    return form


def _form(
    request: Request, settings: Settings, form: Submission[Any], *, endpoint: Endpoint | None, status: int = 200
) -> Response:
    return render(
        request,
        "deployments/endpoint.html",
        status=status,
        form=form,
        endpoint=endpoint,
        listed=settings.endpoint_origins,
        variables=sorted(settings.endpoint_keys),
        prefix=KEY_PREFIX,
    )


def _to_line(request: Request, line_id: int) -> Response:
    return RedirectResponse(request.app.url_path_for("deployments:show", line_id=line_id), status_code=303)
