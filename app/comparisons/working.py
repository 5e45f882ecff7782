"""What people did, as pages and as tables for pay: one's own, and that of everybody in a campaign for its manager."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.accounts.access import CurrentPerson
from app.campaigns.access import ManagedCampaign
from app.comparisons.service.working import WorkWeek, together, work_in_campaign, work_of_person
from app.database import DbSession
from app.generation.csv_writing import csv_text
from app.templating import render

router = APIRouter()

COLUMNS = ["week", "person", "campaign", "judged", "set_aside", "without_time", "skipped", "active_hours"]


@router.get("/work", name="comparisons:work")
def show(request: Request, person: CurrentPerson, session: DbSession) -> Response:
    """What this person judged and skipped, and how long they were at it, by campaign and week."""
    weeks = work_of_person(session, person.id)
    campaigns = list(dict.fromkeys((week.campaign_id, week.campaign) for week in weeks))
    by_campaign = [
        (name, together([week for week in weeks if week.campaign_id == campaign_id])) for campaign_id, name in campaigns
    ]
    return render(request, "comparisons/work.html", weeks=weeks, by_campaign=by_campaign, all_work=together(weeks))


@router.get("/work.csv", name="comparisons:work_table")
def download(person: CurrentPerson, session: DbSession) -> Response:
    """The same for a spreadsheet."""
    return _table(work_of_person(session, person.id), filename="my-work.csv")


@router.get("/campaigns/{campaign_id}/work", name="comparisons:campaign_work")
def show_campaign(request: Request, campaign: ManagedCampaign, session: DbSession) -> Response:
    """What everybody did in a campaign, by person and week."""
    weeks = work_in_campaign(session, campaign.id)
    people = list(dict.fromkeys((week.user_id, week.name) for week in sorted(weeks, key=lambda week: week.name)))
    by_person = [(name, together([week for week in weeks if week.user_id == user_id])) for user_id, name in people]
    return render(
        request,
        "comparisons/campaign_work.html",
        campaign=campaign,
        weeks=weeks,
        by_person=by_person,
        all_work=together(weeks),
    )


@router.get("/campaigns/{campaign_id}/work.csv", name="comparisons:campaign_work_table")
def download_campaign(campaign: ManagedCampaign, session: DbSession) -> Response:
    """The same for a spreadsheet."""
    return _table(work_in_campaign(session, campaign.id), filename=f"work-{campaign.id}.csv")


def _table(weeks: Sequence[WorkWeek], *, filename: str) -> Response:
    """Times are in hours, with three places: a row is a person's week in a campaign."""
    rows = (
        (
            week.week.isoformat(),
            week.name,
            week.campaign,
            week.judged,
            week.set_aside,
            week.untimed,
            week.skipped,
            f"{week.active_ms / 3_600_000:.3f}",
        )
        for week in weeks
    )
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response("\ufeff" + csv_text(COLUMNS, rows), media_type="text/csv; charset=utf-8", headers=headers)
