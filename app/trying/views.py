"""The *Try it* page: a conversation with one version or two, as a plain form, or streamed where scripts run."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.accounts.service.sign_ins import Person
from app.campaigns.access import campaigns_with_access
from app.campaigns.models import Access, Campaign, CampaignState
from app.database import DbSession
from app.errors import NotFound
from app.forms import Submission, submitted
from app.markdown import disarmed, render_markdown
from app.settings import Settings
from app.templating import render
from app.trying.conversation import Reply, Turn, messages_for, written_conversation
from app.trying.replies import Drawing, reply_of
from app.trying.schemas import AskForm, ReplyForm, TryForm
from app.trying.sides import Choice, ReadableSide, Side, choices_of, get_side

router = APIRouter(prefix="/try")

MOST_CAMPAIGNS = 20
"""Campaigns that a prompt is offered to; the newest."""

STARTS = {name: AskForm.model_fields[name].default for name in ("temperature", "top_p", "max_tokens")}


@dataclass(frozen=True)
class Desk:
    """All that the page takes from the database, which is let go of before any model is asked."""

    choices: list[Choice]
    campaigns: list[Campaign]
    """Where this person may add prompts."""


def _desk(session: Session, person: Person) -> Desk:
    managed = campaigns_with_access(session, person=person, least=Access.MANAGE)
    return Desk(
        choices=choices_of(session, person=person),
        campaigns=[each for each in managed if each.state is not CampaignState.CLOSED][:MOST_CAMPAIGNS],
    )


@router.get("", name="trying:show")
def show(request: Request, person: CurrentPerson, session: DbSession, left: str = "", right: str = "") -> Response:
    """The page, with nothing said yet."""
    typed = {**STARTS, "left": left, "right": right}
    return _page(request, _desk(session, person), Submission[TryForm](typed=typed), turns=[])


Asked = Annotated[Submission[TryForm], submitted(TryForm)]


def at_the_desk(form: Asked, person: CurrentPerson, session: DbSession) -> tuple[Desk, Submission[TryForm], list[Side]]:
    """The page's choices and whom the form asks, with the connection given back: models take their time."""
    desk, sides = _desk(session, person), []
    try:
        if form.value is not None:
            wanted = [form.value.left, form.value.right]
            sides = [get_side(session, version_id=each, person=person) for each in wanted if each is not None]
    except NotFound as error:
        form = form.refused(left=error.message)
    session.commit()
    return desk, form, sides


@router.post("", name="trying:ask")
async def ask(
    request: Request, asked: Annotated[tuple[Desk, Submission[TryForm], list[Side]], Depends(at_the_desk)]
) -> Response:
    """The page with the replies, once they are written: the way without scripts."""
    desk, form, sides = asked
    if form.value is None:
        return _page(request, desk, form, turns=_turns_in(form), status=422)
    settings: Settings = request.app.state.settings
    value = form.value
    replies = await asyncio.gather(
        *(_whole_reply(settings, side, value, place=place) for place, side in enumerate(sides))
    )
    turns = [*value.turns, Turn(prompt=value.prompt, replies=list(replies))]
    is_lost = all(reply.error for reply in replies)
    typed = {**form.typed, "prompt": value.prompt if is_lost else ""}
    return _page(request, desk, Submission[TryForm](typed=typed), turns=turns)


def _turns_in(form: Submission[TryForm]) -> list[Turn]:
    return [] if "conversation" in form.errors else TryForm.model_construct(**form.typed).turns


async def _whole_reply(settings: Settings, side: Side, form: AskForm, *, place: int) -> Reply:
    text, ended, error = "", "", ""
    async for piece in reply_of(settings, side, messages=_messages(form, place), drawing=_drawing(form)):
        text, ended, error = text + piece.text, piece.ended or ended, piece.error or error
    return Reply(name=side.name, text=text, ended=ended, error=error)


def _messages(form: AskForm, place: int) -> list[dict[str, str]]:
    return messages_for(form.turns, place=place, system=form.system, prompt=form.prompt)


def _drawing(form: AskForm) -> Drawing:
    return Drawing(temperature=form.temperature, top_p=form.top_p, max_tokens=form.max_tokens, seed=form.seed)


@router.post("/{version_id}/reply", name="trying:reply")
async def stream(
    request: Request, side: ReadableSide, form: Annotated[Submission[ReplyForm], submitted(ReplyForm)]
) -> Response:
    """One reply as it is written, in server-sent events, to whoever stays; who leaves hangs up on the model."""
    settings: Settings = request.app.state.settings
    if form.value is None:
        return StreamingResponse(
            iter([_event(error="; ".join(form.errors.values()))]), status_code=422, media_type="text/event-stream"
        )
    return StreamingResponse(_events(settings, side, form.value), media_type="text/event-stream")


async def _events(settings: Settings, side: Side, form: ReplyForm) -> AsyncIterator[bytes]:
    written = ""
    pieces = reply_of(settings, side, messages=_messages(form, form.place), drawing=_drawing(form))
    async for piece in pieces:
        if piece.ended is not None:
            yield _event(ended=piece.ended, text=written, html=str(render_markdown(written)))
            return
        written += piece.text
        yield _event(**{name: disarmed(said) for name, said in vars(piece).items() if said})


def _event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def _page(request: Request, desk: Desk, form: Submission[TryForm], *, turns: list[Turn], status: int = 200) -> Response:
    chosen = [str(form.typed.get(name) or "") for name in ("left", "right")]
    known = {str(version.id): version.name for choice in desk.choices for version in choice.versions}
    if chosen[0] not in known:
        chosen[0] = next((str(c.current_id or c.versions[0].id) for c in desk.choices if c.versions), "")
    prompts = [turn.prompt for turn in turns]
    return render(
        request,
        "trying/show.html",
        status=status,
        form=form,
        turns=turns,
        choices=desk.choices,
        campaigns=desk.campaigns,
        left=chosen[0],
        right=chosen[1] if chosen[1] in known else "",
        conversation=written_conversation(turns),
        last=_last_messages(turns, form) if prompts else [],
    )


def _last_messages(turns: list[Turn], form: Submission[TryForm]) -> list[dict[str, str]]:
    """The conversation on the left up to the last prompt, as a campaign takes it."""
    return messages_for(turns[:-1], place=0, system=str(form.typed.get("system") or ""), prompt=turns[-1].prompt)
