"""What a campaign warns of before anything of it is shown: going on, leaving it, and coming back."""

import uuid

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app.accounts.access import CurrentPerson
from app.campaigns.access import JudgedCampaign, OnceJudgedCampaign
from app.campaigns.service import leaving
from app.clock import Now
from app.comparisons.service.desk import hold_desk
from app.comparisons.service.leasing import put_back_open
from app.database import DbSession
from app.templating import render

router = APIRouter(prefix="/campaigns/{campaign_id}")

NONE = uuid.UUID(int=0)


@router.get("/content-warning", name="comparisons:warning")
def show(request: Request, campaign: JudgedCampaign) -> Response:
    """What the campaign warns of."""
    return render(request, "comparisons/warning.html", campaign=campaign)


@router.post("/content-warning", name="comparisons:go_on")
def go_on(request: Request, campaign: JudgedCampaign, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """They have read it, and judge."""
    leaving.go_on(session, campaign=campaign, user_id=person.id, now=now)
    return _to(request, "comparisons:judge", campaign_id=campaign.id)


@router.post("/departure", name="comparisons:leave")
def leave(request: Request, campaign: JudgedCampaign, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """End one's own judging here; what is on one's screen goes back to the others."""
    hold_desk(session, annotator_id=person.id)
    put_back_open(session, campaign_id=campaign.id, annotator_id=person.id, except_id=NONE)
    leaving.leave(session, campaign=campaign, user_id=person.id, now=now)
    return _to(request, "home")


@router.post("/return", name="comparisons:come_back")
def come_back(
    request: Request, campaign: OnceJudgedCampaign, person: CurrentPerson, session: DbSession, now: Now
) -> Response:
    """Judge again where one left."""
    leaving.come_back(session, campaign=campaign, user_id=person.id, now=now)
    return _to(request, "comparisons:judge", campaign_id=campaign.id)


def _to(request: Request, name: str, **parameters: int) -> Response:
    return RedirectResponse(request.app.url_path_for(name, **parameters), status_code=303)
