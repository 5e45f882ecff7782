"""Importing comparisons into a campaign: upload a file, follow how it goes in, read what was refused."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from app.accounts.access import CurrentPerson
from app.campaigns.access import ManagedCampaign
from app.campaigns.models import Campaign
from app.clock import Now
from app.database import DbSession
from app.datasets.service.uploads import receive_comparisons
from app.errors import NotFound
from app.forms import Submission
from app.generation.models import Import, ImportKind, ImportState
from app.generation.service.imports import list_imports
from app.settings import Settings
from app.templating import is_htmx, render
from app.wording import gettext as _

router = APIRouter(prefix="/campaigns/{campaign_id}/comparison-imports")


async def sent_file(request: Request) -> UploadFile | None:
    """The file of the form, or None where none was chosen."""
    file = (await request.form()).get("file")
    return file if isinstance(file, UploadFile) and file.filename else None


@router.get("", name="datasets:imports")
def index(request: Request, campaign: ManagedCampaign, session: DbSession) -> Response:
    """The form for a file, and the imports there were."""
    return _page(request, session, campaign)


@router.post("", name="datasets:import")
def receive(
    *,
    request: Request,
    campaign: ManagedCampaign,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
    file: Annotated[UploadFile | None, Depends(sent_file)],
) -> Response:
    """Take an uploaded file; the worker loads it."""
    if file is None:
        return _page(request, session, campaign, error=_("Choose a file first."), status=422)
    record = receive_comparisons(
        session,
        settings=request.app.state.settings,
        campaign=campaign,
        filename=file.filename or "",
        content=file.file,
        by_id=person.id,
        now=now,
    )
    address = request.app.url_path_for("datasets:imported", campaign_id=campaign.id, import_id=record.id)
    return RedirectResponse(address, status_code=303)


@router.get("/{import_id}", name="datasets:imported")
def show(request: Request, campaign: ManagedCampaign, import_id: int, session: DbSession) -> Response:
    """One import: how far it is, what it brought, and each line that was refused."""
    record = session.get(Import, import_id)
    if record is None or (record.campaign_id, record.kind) != (campaign.id, ImportKind.COMPARISONS):
        raise NotFound(_("There is no such import of comparisons in this campaign."))
    is_over = record.state in {ImportState.DONE, ImportState.FAILED}
    template = "datasets/_import.html" if is_htmx(request) else "datasets/import.html"
    return render(request, template, campaign=campaign, record=record, is_over=is_over)


def _page(request: Request, session: Session, campaign: Campaign, *, error: str = "", status: int = 200) -> Response:
    settings: Settings = request.app.state.settings
    imports = list_imports(session, campaign_id=campaign.id, kind=ImportKind.COMPARISONS)
    form: Submission[BaseModel] = Submission(typed={}, errors={"file": error} if error else {})
    return render(
        request,
        "datasets/imports.html",
        status=status,
        campaign=campaign,
        imports=imports,
        form=form,
        megabytes=settings.upload_megabytes,
    )
