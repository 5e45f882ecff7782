"""Prompts one by one: added by hand, tagged, retired, tried again; and found in lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ARRAY, ColumnElement, Text, cast, func, select, text, update
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign
from app.errors import Conflict, Invalid
from app.generation.models import Prompt, PromptState
from app.generation.prompt_lines import BadLine, PromptDraft, prompt_draft, tidy_tags
from app.generation.service.splits import place, remember
from app.live.announcing import announce
from app.queue import enqueue
from app.wording import gettext as _

PAGE_SIZE = 50
_INSERTING = 7_043_210_031
"""Advisory lock key: two imports take turns, batch by batch. They would deadlock over one campaign's prompts, and
put near-duplicates on two sides."""

_INSERT = text(
    """
    INSERT INTO prompts (campaign_id, messages, text_sha256, split, near_sha256, tags, details, external_id,
                         import_id, created_at)
    SELECT :campaign_id, messages, text_sha256, split, near_sha256, tags, details, external_id, :import_id, :now
    FROM ROWS FROM (
      jsonb_to_recordset(CAST(:rows AS jsonb))
      AS (messages jsonb, text_sha256 text, split text, near_sha256 text, tags text[], details jsonb, external_id text)
    ) WITH ORDINALITY
    ORDER BY ordinality
    ON CONFLICT (campaign_id, text_sha256) DO NOTHING
    RETURNING id, text_sha256
    """
)
"""All rows travel as one JSON value, several times faster than as parameters one by one."""


@dataclass(frozen=True)
class PromptFilter:
    """Which prompts of a campaign to list; empty fields do not narrow. `search` looks in the messages."""

    search: str = ""
    tag: str = ""
    state: PromptState | None = None


@dataclass(frozen=True)
class PromptPage:
    """One page of a list of prompts, numbered from 1; `total` counts all that the filter finds."""

    prompts: list[Prompt]
    number: int
    total: int

    @property
    def last_number(self) -> int:
        """The number of the last page; 1 where nothing was found."""
        return max(1, -(-self.total // PAGE_SIZE))


def add_prompt(
    session: Session,
    *,
    campaign: Campaign,
    messages: list[dict[str, Any]],
    tags: Sequence[str] = (),
    details: dict[str, Any] | None = None,
    external_id: str | None = None,
    by_id: int | None,
    now: datetime,
) -> Prompt:
    """One prompt by hand, its split set once and for all by its text.

    Raises Invalid for messages that cannot be a prompt, Conflict where the campaign has one that counts as the same.
    """
    try:
        draft = prompt_draft(messages, tags=tags, details=details, external_id=external_id)
    except BadLine as problem:
        raise Invalid(_("This cannot be a prompt: %(problem)s.", problem=problem)) from problem
    added = insert_prompts(session, [draft], campaign_id=campaign.id, import_id=None, now=now)
    prompt = session.scalars(
        select(Prompt).where(Prompt.campaign_id == campaign.id, Prompt.text_sha256 == draft.text_sha256)
    ).one()
    if not added:
        raise Conflict(
            _(
                "This campaign has this prompt already (number %(id)s, %(in_words)s).",
                id=prompt.id,
                in_words=_in_words(prompt.state),
            )
        )
    _record(session, prompt, "added", by_id=by_id, now=now)
    refill(session, campaign)
    return prompt


def insert_prompts(
    session: Session, drafts: Sequence[PromptDraft], *, campaign_id: int, import_id: int | None, now: datetime
) -> int:
    """Store those drafts that the campaign does not have yet; returns how many those were."""
    if not drafts:
        return 0
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _INSERTING})
    placements = place(session, drafts)
    rows = [
        {**vars(draft), "split": placement.split, "near_sha256": placement.near_sha256}
        for draft, placement in zip(drafts, placements, strict=True)
    ]
    shared = {"campaign_id": campaign_id, "import_id": import_id, "now": now}
    added = session.execute(_INSERT, {"rows": orjson.dumps(rows).decode(), **shared}).all()
    new_bands = {draft.text_sha256: each.new_bands for draft, each in zip(drafts, placements, strict=True)}
    remember(session, {row.id: new_bands[row.text_sha256] for row in added})
    return len(added)


def find_near(session: Session, prompt: Prompt) -> Prompt | None:
    """The prompt whose side this one took because the two are nearly the same, or None."""
    query = select(Prompt).where(Prompt.text_sha256 == prompt.near_sha256, Prompt.id != prompt.id)
    return session.scalars(query.order_by(Prompt.campaign_id != prompt.campaign_id, Prompt.id).limit(1)).first()


def retag_prompt(session: Session, *, prompt: Prompt, tags: Sequence[str], by_id: int | None, now: datetime) -> None:
    """Give a prompt these tags in place of those it has; raises Invalid for too many or too long ones."""
    try:
        tidied = tidy_tags(tags)
    except BadLine as problem:
        raise Invalid(_("These cannot be its tags: the prompt %(problem)s.", problem=problem)) from problem
    if tidied != prompt.tags:
        _record(session, prompt, "retagged", by_id=by_id, now=now, before=prompt.tags, after=tidied)
        prompt.tags = tidied
        session.flush()


def retire_prompt(session: Session, *, prompt: Prompt, by_id: int | None, now: datetime) -> None:
    """Ask no more about a prompt; what was judged stays."""
    if prompt.state is not PromptState.RETIRED:
        prompt.state, prompt.state_reason = PromptState.RETIRED, ""
        session.flush()
        _record(session, prompt, "retired", by_id=by_id, now=now)


def restore_prompt(session: Session, *, prompt: Prompt, by_id: int | None, now: datetime) -> None:
    """Make a retired or set-aside prompt active, with its failed draws forgotten."""
    if prompt.state is not PromptState.ACTIVE:
        prompt.state, prompt.state_reason, prompt.failed_draws = PromptState.ACTIVE, "", 0
        session.flush()
        _record(session, prompt, "restored", by_id=by_id, now=now)
        refill(session, prompt.campaign)


def try_all_again(session: Session, *, campaign: Campaign, by_id: int | None, now: datetime) -> int:
    """Make every prompt active that was set aside; returns how many."""
    changed = session.execute(
        update(Prompt)
        .where(Prompt.campaign_id == campaign.id, Prompt.state == PromptState.SET_ASIDE)
        .values(state=PromptState.ACTIVE, state_reason="", failed_draws=0)
        .returning(Prompt.id)
    ).all()
    if changed:
        record_deed(
            session,
            action="prompts.restored",
            subject=campaign,
            subject_id=campaign.id,
            actor_id=by_id,
            now=now,
            count=len(changed),
        )
        refill(session, campaign)
    return len(changed)


def refill(session: Session, campaign: Campaign) -> None:
    """Have comparisons made of prompts that an open campaign just got."""
    announce(session, "campaign", campaign.id)
    if campaign.is_open:
        name = f"fill-{campaign.id}"
        enqueue(session, "comparisons:fill_queue", once=name, lock=name, campaign_id=campaign.id)


def list_prompts(session: Session, *, campaign_id: int, which: PromptFilter, page: int = 1) -> PromptPage:
    """One page of a campaign's prompts, the newest first; a page beyond the last is the last."""
    conditions = _conditions(campaign_id, which)
    total = session.scalars(select(func.count()).select_from(Prompt).where(*conditions)).one()
    number = min(max(1, page), max(1, -(-total // PAGE_SIZE)))
    query = select(Prompt).where(*conditions).order_by(Prompt.id.desc())
    prompts = session.scalars(query.limit(PAGE_SIZE).offset((number - 1) * PAGE_SIZE)).all()
    return PromptPage(prompts=list(prompts), number=number, total=total)


def list_tags(session: Session, *, campaign_id: int, limit: int = 200) -> list[tuple[str, int]]:
    """The tags of a campaign's prompts with how many bear each, the commonest first."""
    tag = func.unnest(Prompt.tags).label("tag")
    each = select(tag).where(Prompt.campaign_id == campaign_id).subquery()
    count = func.count()
    query = select(each.c.tag, count).group_by(each.c.tag).order_by(count.desc(), each.c.tag).limit(limit)
    return [(name, number) for name, number in session.execute(query)]


def _conditions(campaign_id: int, which: PromptFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Prompt.campaign_id == campaign_id]
    if which.state is not None:
        conditions.append(Prompt.state == which.state)
    if which.tag:
        conditions.append(Prompt.tags.op("@>")(cast([which.tag], ARRAY(Text))))
    for word in which.search.split():
        conditions.append(_says(word))
    return conditions


def _says(word: str) -> ColumnElement[bool]:
    message = func.jsonb_array_elements(Prompt.messages).table_valued("value").alias("message")
    content = message.c.value.op("->>")(text("'content'"))
    return select(1).select_from(message).where(content.icontains(word, autoescape=True)).exists()


def _in_words(state: PromptState) -> str:
    return state.value.replace("_", " ")


def _record(
    session: Session, prompt: Prompt, verb: str, *, by_id: int | None, now: datetime, **details: object
) -> None:
    record_deed(
        session, action=f"prompt.{verb}", subject=prompt, subject_id=prompt.id, actor_id=by_id, now=now, **details
    )
