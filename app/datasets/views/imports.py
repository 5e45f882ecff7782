"""Importing comparisons into a campaign: upload a file, follow how it goes in, read what was refused."""

from typing import Annotated

from fastapi import APIRouter, File, Request, UploadFile
from fastapi.responses import RedirectResponse, Response

from app.accounts.access import CurrentPerson
from app.campaigns.access import ManagedCampaign
from app.clock import Now
from app.database import DbSession
from app.datasets.service.uploads import receive_comparisons
from app.errors import Invalid, NotFound
from app.generation.models import Import, ImportKind
from app.generation.service.imports import list_imports
from app.settings import Settings
from app.templating import is_htmx, render

router = APIRouter()


@router.get("/campaigns/{campaign_id}/comparison-imports", name="datasets:imports")
def index(request: Request, campaign: ManagedCampaign, session: DbSession) -> Response:
    """The form for a file, and the imports there were."""
    imports = [each for each in list_imports(session, campaign_id=campaign.id) if each.kind is ImportKind.COMPARISONS]
    settings: Settings = request.app.state.settings
    return render(
        request, "datasets/imports.html", campaign=campaign, imports=imports, megabytes=settings.upload_megabytes
    )


@router.post("/campaigns/{campaign_id}/comparison-imports", name="datasets:import")
def receive(
    *,
    request: Request,
    campaign: ManagedCampaign,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
    file: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Take an uploaded file; the worker loads it."""
    if file is None or not file.filename:
        raise Invalid("Choose a file first: comparisons in the house format, as JSONL or packed with gzip.")
    record = receive_comparisons(
        session,
        settings=request.app.state.settings,
        campaign=campaign,
        filename=file.filename,
        content=file.file,
        by_id=person.id,
        now=now,
    )
    address = request.app.url_path_for("datasets:imported", campaign_id=campaign.id, import_id=record.id)
    return RedirectResponse(address, status_code=303)


@router.get("/campaigns/{campaign_id}/comparison-imports/{import_id}", name="datasets:imported")
def show(request: Request, campaign: ManagedCampaign, import_id: int, session: DbSession) -> Response:
    """One import: how far it is, what it brought, and each line that was refused."""
    record = session.get(Import, import_id)
    if record is None or (record.campaign_id, record.kind) != (campaign.id, ImportKind.COMPARISONS):
        raise NotFound("There is no such import of comparisons in this campaign.")
    template = "datasets/_import.html" if is_htmx(request) else "datasets/import.html"
    return render(request, template, campaign=campaign, record=record)
