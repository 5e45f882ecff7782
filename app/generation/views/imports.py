"""Files of prompts: sent by a browser, followed while the worker reads them, with every line turned away."""

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
from app.forms import Submission
from app.generation.access import ManagedImport
from app.generation.csv_writing import csv_text
from app.generation.models import ImportKind, ImportState
from app.generation.service.imports import list_imports
from app.generation.service.uploads import receive_prompts
from app.templating import is_htmx, render
from app.wording import gettext as _

router = APIRouter(prefix="/imports")


async def sent_file(request: Request) -> UploadFile | None:
    """The file of the form, or None where none was chosen."""
    file = (await request.form()).get("file")
    return file if isinstance(file, UploadFile) and file.filename else None


@router.get("", name="generation:imports")
def show_imports(request: Request, session: DbSession, campaign: ManagedCampaign) -> Response:
    """The form that takes a file, and the files taken so far."""
    return _imports_page(request, session, campaign)


@router.post("", name="generation:upload")
def upload(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    file: Annotated[UploadFile | None, Depends(sent_file)],
) -> Response:
    """Keep a file of prompts and have the worker read it; the import's page tells how it goes."""
    if file is None:
        return _imports_page(request, session, campaign, error=_("Choose a file first."), status=422)
    record = receive_prompts(
        session,
        settings=request.app.state.settings,
        campaign=campaign,
        filename=file.filename or "",
        content=file.file,
        by_id=person.id,
        now=now,
    )
    path = request.app.url_path_for("generation:import", campaign_id=campaign.id, import_id=record.id)
    return RedirectResponse(path, status_code=303)


@router.get("/{import_id}", name="generation:import")
def show_import(request: Request, campaign: ManagedCampaign, record: ManagedImport) -> Response:
    """How an import goes, or went; only its figures where htmx asks again."""
    is_over = record.state in {ImportState.DONE, ImportState.FAILED}
    template = "generation/_import.html" if is_htmx(request) else "generation/import.html"
    return render(request, template, campaign=campaign, record=record, is_over=is_over)


@router.get("/{import_id}/rejections.csv", name="generation:rejections")
def download_rejections(record: ManagedImport) -> Response:
    """The lines turned away, for a spreadsheet."""
    rows = ((each["line"], each["reason"], each["excerpt"]) for each in record.rejections)
    content = "\ufeff" + csv_text(["line", "reason", "excerpt"], rows)
    headers = {"Content-Disposition": f'attachment; filename="rejections-{record.id}.csv"'}
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


def _imports_page(
    request: Request, session: Session, campaign: Campaign, *, error: str = "", status: int = 200
) -> Response:
    form: Submission[BaseModel] = Submission(typed={}, errors={"file": error} if error else {})
    return render(
        request,
        "generation/imports.html",
        status=status,
        campaign=campaign,
        imports=list_imports(session, campaign_id=campaign.id, kind=ImportKind.PROMPTS),
        form=form,
        most_megabytes=request.app.state.settings.upload_megabytes,
    )
