"""The pages on which managers and researchers look comparisons up, see one whole, and set judgments aside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.clock import Now
from app.comparisons.access import ManagedJudgment, ReadableComparison
from app.comparisons.filters import OUTCOME_LABELS, Annotator, ComparisonFilter, Counting, FilterForm, Side, in_address
from app.comparisons.models import Judgment
from app.comparisons.service.finding import FoundPage, find_page
from app.comparisons.service.inspecting import inspect
from app.comparisons.service.listing import list_found
from app.comparisons.service.naming import Reader, Who, annotators_of, reader_of
from app.comparisons.service.rejecting import Grounds, lift_rejection, reject_judgment
from app.database import DbSession
from app.deployments.service import list_versions_of
from app.forms import Submission, submitted, validated
from app.pseudonyms import Pseudonyms
from app.settings import Settings
from app.templating import is_htmx, render
from app.wording import gettext as _

router = APIRouter()

LARGEST_ID = 2**63 - 1


def the_reader(request: Request, person: CurrentPerson, session: DbSession) -> Reader:
    """Who looks, and what they may see of whom."""
    settings: Settings = request.app.state.settings
    return reader_of(session, person=person, pseudonyms=Pseudonyms(settings.required_secret()))


TheReader = Annotated[Reader, Depends(the_reader)]


@dataclass(frozen=True)
class Search:
    """A filter as it was asked for: the form with what is wrong in it, and, if nothing is, what is looked for."""

    form: Submission[FilterForm]
    which: ComparisonFilter | None
    annotators: list[tuple[Annotator, Who]]

    @property
    def address(self) -> str:
        """The filter as the query of an address; empty where it does not narrow, or is wrong."""
        return urlencode(in_address(self.which.form)) if self.which is not None else ""


def read_search(session: Session, reader: Reader, given: Mapping[str, str]) -> Search:
    """What an address asks for, within what its reader may see."""
    names = FilterForm.model_fields
    typed: dict[str, Any] = {name: given[name] for name in names if name in given}
    form: Submission[FilterForm] = validated(FilterForm, typed, blank_is_absent=set(names))
    chosen = form.value.campaign if form.value is not None else None
    if chosen is not None and chosen not in reader.campaigns:
        form = form.refused(campaign=_("There is no such campaign, or you may not see its data."))
        chosen = None
    campaign_ids = [chosen] if chosen is not None else list(reader.campaigns)
    annotators = annotators_of(session, reader, campaign_ids=campaign_ids)
    value = form.value
    if value is None:
        return Search(form, None, annotators)
    by_pseudonym = {who.pseudonym: annotator for annotator, who in annotators}
    if value.annotator and value.annotator not in by_pseudonym:
        form = form.refused(annotator=_("Nobody here goes by this name. Choose one of the list."))
        return Search(form, None, annotators)
    return Search(form, ComparisonFilter(value, campaign_ids, by_pseudonym.get(value.annotator)), annotators)


def _edge(given: Mapping[str, str], name: str) -> int | None:
    """Where a page begins; what is no number begins at the newest."""
    text = given.get(name, "")
    return min(int(text), LARGEST_ID) if text.isascii() and text.isdecimal() and len(text) < 20 else None


@router.get("/comparisons", name="comparisons:browse")
def browse(request: Request, session: DbSession, reader: TheReader) -> Response:
    """Comparisons of all campaigns whose data a person may see, newest first, narrowed by what is looked for."""
    given = request.query_params
    search = read_search(session, reader, given)
    page, found = FoundPage([], None, None), []
    if search.which is not None and reader.campaigns:
        page = find_page(session, search.which, before=_edge(given, "before"), after=_edge(given, "after"))
        found = list_found(session, page.ids, which=search.which, reader=reader)
    return render(
        request,
        "comparisons/found.html" if is_htmx(request) else "comparisons/browse.html",
        status=200 if search.which is not None else 422,
        search=search,
        page=page,
        found=found,
        reader=reader,
        changeable=_changeable(search, reader),
        links=_page_links(request, search, page),
        versions=list_versions_of(session, line_ids={each.line_id for each in reader.campaigns.values()}),
        outcomes=OUTCOME_LABELS,
        countings=list(Counting),
        sides=list(Side),
    )


def _changeable(search: Search, reader: Reader) -> int | None:
    """The campaign whose comparisons can be changed many at once: the one looked at, if this person manages it."""
    if search.which is None or len(search.which.campaign_ids) != 1:
        return None
    (campaign_id,) = search.which.campaign_ids
    return campaign_id if reader.may_manage(campaign_id) else None


def _page_links(request: Request, search: Search, page: FoundPage) -> dict[str, str]:
    path = request.app.url_path_for("comparisons:browse")
    edges = {"before": page.before, "after": page.after}
    kept = {} if search.which is None else in_address(search.which.form)
    return {name: f"{path}?{urlencode({**kept, name: edge})}" for name, edge in edges.items() if edge is not None}


@router.get("/comparisons/{comparison_id}", name="comparisons:show")
def show(
    request: Request, comparison: ReadableComparison, session: DbSession, reader: TheReader, said: str = ""
) -> Response:
    """One comparison whole, and the way to those before and after it in the search that led here."""
    search = read_search(session, reader, request.query_params)
    neighbours: dict[str, int] = {}
    if search.which is not None:
        older = find_page(session, search.which, before=comparison.id, size=1).ids
        newer = find_page(session, search.which, after=comparison.id, size=1).ids
        neighbours = {name: ids[0] for name, ids in (("newer", newer), ("older", older)) if ids}
    return render(
        request,
        "comparisons/show.html",
        seen=inspect(session, comparison, reader=reader),
        campaign=reader.campaigns[comparison.campaign_id],
        may_manage=reader.may_manage(comparison.campaign_id),
        search=search,
        neighbours=neighbours,
        said=said,
    )


class RejectionForm(BaseModel):
    """Why a judgment is set aside, and whether its annotator may judge again."""

    reason: str
    serves_again: bool = False


@router.post("/judgments/{judgment_id}/rejection", name="comparisons:reject")
def reject(
    *,
    request: Request,
    judgment: ManagedJudgment,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[RejectionForm], submitted(RejectionForm)],
) -> Response:
    """Set a judgment aside; its comparison is handed out again."""
    given = form.checked()
    grounds = Grounds.of(given.reason, serves_again=given.serves_again)
    reject_judgment(session, judgment_id=judgment.id, grounds=grounds, by_id=person.id, now=now)
    return _to_comparison(request, judgment, said="rejected")


@router.post("/judgments/{judgment_id}/reinstatement", name="comparisons:reinstate")
def reinstate(
    request: Request, judgment: ManagedJudgment, person: CurrentPerson, session: DbSession, now: Now
) -> Response:
    """Take a rejection back while its place is free."""
    lift_rejection(session, judgment_id=judgment.id, by_id=person.id, now=now)
    return _to_comparison(request, judgment, said="reinstated")


def _to_comparison(request: Request, judgment: Judgment, *, said: str) -> Response:
    path = request.app.url_path_for("comparisons:show", comparison_id=judgment.comparison_id)
    return RedirectResponse(f"{path}?said={said}#judgment-{judgment.id}", status_code=303)
