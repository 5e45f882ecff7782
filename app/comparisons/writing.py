"""The page on which annotators write a better completion than the one that they judged better."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel

from app.clock import Now
from app.comparisons.access import OwnAssignment
from app.comparisons.service.correcting import present_correction, save_correction
from app.comparisons.service.desk import HeldAssignment
from app.database import DbSession
from app.errors import Invalid
from app.forms import Submission, submitted
from app.templating import is_htmx, render

router = APIRouter()


class CorrectionForm(BaseModel):
    """What somebody wrote, and the shown place of the completion that they started from."""

    key: uuid.UUID
    start: int
    text: str = ""


@router.get("/assignments/{assignment_id}/correction", name="comparisons:correct")
def correct(request: Request, assignment: OwnAssignment, session: DbSession, start: int | None = None) -> Response:
    """The prompt, and a field that begins with the better completion's text, or with what was written before."""
    comparison = present_correction(session, assignment=assignment, start=start)
    form: Submission[CorrectionForm] = Submission(typed={"text": comparison.text, "key": comparison.key})
    return render(request, "comparisons/correct.html", comparison=comparison, form=form)


@router.post("/assignments/{assignment_id}/correction", name="comparisons:save_correction")
def save(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[CorrectionForm], submitted(CorrectionForm)],
) -> Response:
    """Keep the correction and go back to judging; what says nothing or changes nothing is shown again."""
    given = form.checked()
    try:
        save_correction(session, assignment=assignment, start=given.start, text=given.text, key=given.key, now=now)
    except Invalid as refusal:
        comparison = present_correction(session, assignment=assignment, start=given.start)
        form = form.refused(text=refusal.message)
        return render(request, "comparisons/correct.html", status=422, comparison=comparison, form=form)
    request.app.state.hub.announce_soon("campaign", assignment.campaign_id)
    return _onwards(request, assignment)


def _onwards(request: Request, assignment: HeldAssignment) -> Response:
    """To the next comparison, or to the start page for who no longer judges here."""
    if assignment.still_judges:
        to = str(request.app.url_path_for("comparisons:judge", campaign_id=assignment.campaign_id))
    else:
        to = str(request.app.url_path_for("home"))
    return Response(headers={"HX-Redirect": to}) if is_htmx(request) else RedirectResponse(to, status_code=303)
