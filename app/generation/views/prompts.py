"""A campaign's prompts: listed and searched, added by hand, tagged, retired, tried again."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.campaigns.access import ManagedCampaign, ReadableCampaign, effective_access
from app.campaigns.models import Access, Campaign
from app.clock import Now
from app.database import DbSession
from app.errors import Conflict, Invalid
from app.forms import Submission, submitted
from app.generation.access import ManagedPrompt, ReadablePrompt
from app.generation.models import Prompt, PromptState
from app.generation.prompt_lines import split_tags
from app.generation.schemas import PromptForm, TagsForm, read_filter
from app.generation.service.prompts import (
    PromptFilter,
    PromptPage,
    add_prompt,
    find_near,
    list_prompts,
    list_tags,
    restore_prompt,
    retag_prompt,
    retire_prompt,
    try_all_again,
)
from app.templating import is_htmx, render

router = APIRouter(prefix="/prompts")


@router.get("", name="generation:prompts")
def list_page(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ReadableCampaign,
    q: str = "",
    tag: str = "",
    state: str = "",
    page: int = 1,
    said: str = "",
) -> Response:
    """One page of prompts, narrowed by what is searched for; only the list where htmx asks."""
    which = read_filter(q=q, tag=tag, state=state)
    found = list_prompts(session, campaign_id=campaign.id, which=which, page=page)
    may_manage = effective_access(session, campaign_id=campaign.id, person=person) is Access.MANAGE
    links = _page_links(request, campaign, which, found)
    context: dict[str, Any] = {"campaign": campaign, "which": which, "found": found, "links": links}
    if is_htmx(request):
        return render(request, "generation/prompts_found.html", may_manage=may_manage, **context)
    tags = list_tags(session, campaign_id=campaign.id)
    return render(
        request,
        "generation/prompts.html",
        tags=tags,
        states=list(PromptState),
        may_manage=may_manage,
        said=said,
        **context,
    )


@router.get("/new", name="generation:new_prompt")
def show_blank_form(request: Request, campaign: ManagedCampaign) -> Response:
    """The form for a prompt by hand."""
    return _form_page(request, campaign, Submission(typed={}))


@router.post("", name="generation:add_prompt")
def add(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    form: Annotated[Submission[PromptForm], submitted(PromptForm)],
) -> Response:
    """Add one prompt."""
    if form.value is None:
        return _form_page(request, campaign, form, status=422)
    messages, tags = form.value.messages(), form.value.tag_list()
    try:
        prompt = add_prompt(session, campaign=campaign, messages=messages, tags=tags, by_id=person.id, now=now)
    except (Invalid, Conflict) as refusal:
        return _form_page(request, campaign, form.refused(form=refusal.message), status=refusal.status)
    return _to_prompt(request, prompt, said="added")


@router.post("/restoration", name="generation:try_all_again")
def try_set_aside_again(
    request: Request, session: DbSession, person: CurrentPerson, campaign: ManagedCampaign, now: Now
) -> Response:
    """Make every prompt active that was set aside."""
    try_all_again(session, campaign=campaign, by_id=person.id, now=now)
    path = request.app.url_path_for("generation:prompts", campaign_id=campaign.id)
    return RedirectResponse(f"{path}?said=all-restored", status_code=303)


@router.get("/{prompt_id}", name="generation:prompt")
def show(
    request: Request, session: DbSession, person: CurrentPerson, prompt: ReadablePrompt, said: str = ""
) -> Response:
    """One prompt, whole."""
    return _prompt_page(request, session, prompt, Submission(typed={"tags": "; ".join(prompt.tags)}), said=said)


@router.post("/{prompt_id}/tags", name="generation:retag_prompt")
def retag(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    prompt: ManagedPrompt,
    now: Now,
    form: Annotated[Submission[TagsForm], submitted(TagsForm)],
) -> Response:
    """Give a prompt other tags."""
    try:
        retag_prompt(session, prompt=prompt, tags=split_tags(form.checked().tags), by_id=person.id, now=now)
    except Invalid as refusal:
        return _prompt_page(request, session, prompt, form.refused(tags=refusal.message), status=refusal.status)
    return _to_prompt(request, prompt, said="retagged")


@router.post("/{prompt_id}/retirement", name="generation:retire_prompt")
def retire(request: Request, session: DbSession, person: CurrentPerson, prompt: ManagedPrompt, now: Now) -> Response:
    """Ask no more about a prompt."""
    retire_prompt(session, prompt=prompt, by_id=person.id, now=now)
    return _changed(request, prompt, said="retired")


@router.post("/{prompt_id}/restoration", name="generation:restore_prompt")
def restore(request: Request, session: DbSession, person: CurrentPerson, prompt: ManagedPrompt, now: Now) -> Response:
    """Make a prompt active that was retired or set aside."""
    restore_prompt(session, prompt=prompt, by_id=person.id, now=now)
    return _changed(request, prompt, said="restored")


def _changed(request: Request, prompt: Prompt, *, said: str) -> Response:
    """The prompt's row of the list for htmx, its own page for a plain form."""
    if is_htmx(request):
        return render(request, "generation/_prompt.html", campaign=prompt.campaign, prompt=prompt, may_manage=True)
    return _to_prompt(request, prompt, said=said)


def _form_page(request: Request, campaign: Campaign, form: Submission[PromptForm], *, status: int = 200) -> Response:
    return render(request, "generation/new_prompt.html", status=status, campaign=campaign, form=form)


def _prompt_page(
    request: Request, session: Session, prompt: Prompt, form: Submission[TagsForm], *, status: int = 200, said: str = ""
) -> Response:
    access = effective_access(session, campaign_id=prompt.campaign_id, person=request.state.user)
    return render(
        request,
        "generation/prompt.html",
        status=status,
        campaign=prompt.campaign,
        prompt=prompt,
        near=find_near(session, prompt),
        form=form,
        may_manage=access is Access.MANAGE,
        said=said,
    )


def _page_links(request: Request, campaign: Campaign, which: PromptFilter, found: PromptPage) -> dict[str, str]:
    """Addresses of the pages before and after, where there are any, with the filter kept."""
    path = request.app.url_path_for("generation:prompts", campaign_id=campaign.id)
    fields = {"q": which.search, "tag": which.tag, "state": which.state or ""}
    kept = {name: value for name, value in fields.items() if value}
    neighbours = {"before": found.number - 1, "after": found.number + 1}
    return {
        name: f"{path}?{urlencode({**kept, 'page': number})}"
        for name, number in neighbours.items()
        if 1 <= number <= found.last_number
    }


def _to_prompt(request: Request, prompt: Prompt, *, said: str) -> Response:
    path = request.app.url_path_for("generation:prompt", campaign_id=prompt.campaign_id, prompt_id=prompt.id)
    return RedirectResponse(f"{path}?said={said}", status_code=303)
