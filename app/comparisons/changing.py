"""The pages for changing many at once: how many there are, one confirmation, and how far it is."""

import math
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.campaigns.access import ManagedCampaign
from app.campaigns.models import Campaign
from app.clock import Now
from app.comparisons.browsing import Search, TheReader, read_search
from app.comparisons.filters import FilterForm
from app.comparisons.models import BulkChange, BulkVerb
from app.comparisons.service.bulk import COUNTED_TO, DONE_AT_ONCE, Aim, annotator_kept, count_targets, request_change
from app.comparisons.service.naming import Reader
from app.comparisons.service.rejecting import Grounds
from app.database import DbSession
from app.errors import Invalid, NotFound
from app.forms import Submission, submitted, validated
from app.generation.prompt_lines import BadLine, split_tags, tidy_tags
from app.templating import is_htmx, render
from app.wording import gettext as _

router = APIRouter(prefix="/campaigns/{campaign_id}/changes")

MOST_CHOSEN = 1000
LARGEST_PRIORITY = 1_000_000


class AimForm(FilterForm):
    """What is to be done to which comparisons."""

    verb: BulkVerb
    which: Literal["chosen", "all"]
    ids: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] = Field(default=[], max_length=MOST_CHOSEN)


class ChangeForm(AimForm):
    """The confirmation: the aim, and what the verb needs to know."""

    key: uuid.UUID
    reason: str = ""
    serves_again: bool = False
    priority: str = ""
    tags: str = ""

    def details(self) -> dict[str, Any]:
        """What the change keeps of this; raises Invalid for what its verb cannot use."""
        if self.verb is BulkVerb.REJECT:
            return vars(Grounds.of(self.reason, serves_again=self.serves_again))
        if self.verb is BulkVerb.PRIORITISE:
            return {"priority": _priority(self.priority)}
        if self.verb is BulkVerb.TAG:
            return {"tags": _tags(self.tags)}
        return {}


def _priority(text: str) -> float:
    try:
        priority = float(text)
    except ValueError:
        priority = math.nan
    if not abs(priority) <= LARGEST_PRIORITY:
        raise Invalid(_("A priority is a number up to a million; higher ones are handed out sooner, and 0 is usual."))
    return priority


def _tags(text: str) -> list[str]:
    try:
        tags = tidy_tags(split_tags(text.replace("\x00", "")))
    except BadLine as problem:
        raise Invalid(_("These cannot be tags: a prompt %(problem)s.", problem=problem)) from problem
    if not tags:
        raise Invalid(_("Say which tags to add, separated by semicolons."))
    return tags


@router.get("/new", name="comparisons:new_change")
def confirm(request: Request, campaign: ManagedCampaign, session: DbSession, reader: TheReader) -> Response:
    """How many there are, what will be done, and the one question before it is."""
    query = request.query_params
    typed: dict[str, Any] = {**query, "verb": query.get("verb", "reject"), "which": query.get("which", "chosen")}
    form: Submission[AimForm] = validated(
        AimForm, {**typed, "ids": query.getlist("ids")}, blank_is_absent=set(AimForm.model_fields)
    )
    return _confirmation(request, session, campaign, reader, form.checked())


def _confirmation(
    request: Request,
    session: Session,
    campaign: Campaign,
    reader: Reader,
    given: AimForm,
    *,
    wrong: str = "",
    status: int = 200,
) -> Response:
    search = _search(session, campaign, reader, given)
    aim = _aim(campaign, search, given)
    count = count_targets(session, aim)
    return render(
        request,
        "comparisons/confirm_change.html",
        status=status,
        campaign=campaign,
        given=given,
        search=search,
        count=count,
        counted_to=COUNTED_TO,
        at_once=DONE_AT_ONCE,
        wrong=wrong,
        key=uuid.uuid4(),
    )


def _search(session: Session, campaign: Campaign, reader: Reader, given: AimForm) -> Search:
    """The filter, within the campaign of the address."""
    fields = {name: str(getattr(given, name) or "") for name in FilterForm.model_fields}
    return read_search(session, reader, {**fields, "campaign": str(campaign.id)})


def _aim(campaign: Campaign, search: Search, given: AimForm) -> Aim:
    if search.which is None:
        raise Invalid("; ".join(search.form.errors.values()))
    if given.which == "chosen" and not given.ids:
        raise Invalid(_("Choose some comparisons first, by the boxes beside them. Nothing was changed."))
    chosen = sorted(set(given.ids)) if given.which == "chosen" else None
    return Aim(campaign, given.verb, search.which, chosen)


@router.post("", name="comparisons:change")
def change_many(
    *,
    request: Request,
    campaign: ManagedCampaign,
    person: CurrentPerson,
    session: DbSession,
    reader: TheReader,
    now: Now,
    form: Annotated[Submission[ChangeForm], submitted(ChangeForm)],
) -> Response:
    """Do it, at once or by the worker."""
    given = form.checked()
    aim = _aim(campaign, _search(session, campaign, reader, given), given)
    try:
        details = given.details()
    except Invalid as refusal:
        return _confirmation(request, session, campaign, reader, given, wrong=refusal.message, status=refusal.status)
    details.update(annotator_kept(aim.which))
    change = request_change(session, aim=aim, details=details, key=given.key, by_id=person.id, now=now)
    path = request.app.url_path_for("comparisons:changed", campaign_id=campaign.id, change_id=change.id)
    return RedirectResponse(path, status_code=303)


@router.get("/{change_id}", name="comparisons:changed")
def show(request: Request, change_id: int, campaign: ManagedCampaign, session: DbSession) -> Response:
    """How far a change is; asked again by the page until it is done."""
    change = session.get(BulkChange, change_id)
    if change is None or change.campaign_id != campaign.id:
        raise NotFound(_("There is no such change in this campaign."))
    template = "comparisons/_change.html" if is_htmx(request) else "comparisons/change.html"
    return render(request, template, campaign=campaign, change=change)
