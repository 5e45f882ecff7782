"""One deed done to many: counted and confirmed first, then at once for a few hundred, else by the worker in batches.

A batch is one transaction and moves the mark below which nothing is done yet; killed anywhere, the next run goes on
from there. What was done already is passed over, so that doing it twice does no harm.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.campaigns.models import Campaign
from app.clock import Clock
from app.comparisons.filters import Annotator, ComparisonFilter, FilterForm, in_address
from app.comparisons.models import BulkChange, BulkState, BulkVerb
from app.comparisons.service.finding import find_page, look_up_by_index
from app.comparisons.service.matching import conditions, of_judgment, parameters
from app.comparisons.service.rejecting import Grounds, reject_judgments
from app.database import SessionFactory
from app.generation.models import Prompt, PromptState
from app.generation.prompt_lines import BadLine, tidy_tags
from app.queue import enqueue

DONE_AT_ONCE = 300
"""More than that is left to the worker."""
BATCH = 100
COUNTED_TO = 100_000
TOP = 2**63 - 1


@dataclass(frozen=True)
class Aim:
    """What a change is done to: the comparisons chosen, or all that the filter finds, in one campaign."""

    campaign: Campaign
    verb: BulkVerb
    which: ComparisonFilter
    chosen: list[int] | None
    judgments_up_to: int = TOP


_OF = {
    BulkVerb.REJECT: "SELECT j.id FROM judgments AS j JOIN c ON c.id = j.comparison_id "
    "WHERE j.id <= :judgments_up_to AND {of_judgment}",
    BulkVerb.PRIORITISE: "SELECT c.id FROM c",
    BulkVerb.TAG: "SELECT DISTINCT c.prompt_id FROM c",
    BulkVerb.RETIRE: "SELECT DISTINCT c.prompt_id FROM c",
}
_TARGETS = """
    WITH c AS NOT MATERIALIZED (
      SELECT c.id, c.prompt_id FROM comparisons AS c
      WHERE c.campaign_id = :campaign AND c.state = 'open' AND {narrowed})
    {of} LIMIT {most}
"""


def count_targets(session: Session, aim: Aim) -> int:
    """How many judgments, comparisons or prompts a change would touch; COUNTED_TO + 1 where there are more."""
    look_up_by_index(session)
    given = {**parameters(session, aim.which), "ids": aim.chosen, "judgments_up_to": aim.judgments_up_to}
    query = f"SELECT count(*) FROM ({_targets(aim, given, most=COUNTED_TO + 1)}) AS targets"  # noqa: S608
    return int(session.scalar(text(query), given) or 0)


def _targets(aim: Aim, given: dict[str, Any], *, most: int) -> str:
    narrowed = "c.id = ANY(:ids)" if aim.chosen is not None else conditions(aim.which, given)
    return _TARGETS.format(narrowed=narrowed, of=_OF[aim.verb].format(of_judgment=of_judgment(aim.which)), most=most)


def request_change(
    session: Session, *, aim: Aim, details: dict[str, Any], key: uuid.UUID, by_id: int, now: datetime
) -> BulkChange:
    """Do it now where it is little, else have the worker do it; the same key asks for the same change again."""
    up_to = int(session.scalar(text("SELECT coalesce(max(id), 0) FROM judgments")) or 0)
    row = {
        **{"campaign_id": aim.campaign.id, "verb": aim.verb, "key": key, "details": details, "before_id": TOP},
        **{"filter": in_address(aim.which.form), "comparison_ids": aim.chosen, "judgments_up_to": up_to},
        **{"found": count_targets(session, aim), "created_by_id": by_id, "created_at": now},
    }
    statement = insert(BulkChange).values(**row).on_conflict_do_nothing(index_elements=["created_by_id", "key"])
    new_id = session.scalar(statement.returning(BulkChange.id))
    if new_id is None:
        same = select(BulkChange).where(BulkChange.created_by_id == by_id, BulkChange.key == key)
        return session.scalars(same).one()
    change = session.get_one(BulkChange, new_id)
    _record(session, change, "requested", now=now, found=change.found, **details)
    if change.found <= DONE_AT_ONCE:
        _do(session, change, _gathered(session, change), now=now)
        _finish(session, change, now=now)
    else:
        name = f"bulk-change-{change.id}"
        enqueue(session, "comparisons:carry_out_change", once=name, lock=name, change_id=change.id)
    session.flush()
    return change


def carry_out(session_factory: SessionFactory, *, change_id: int, clock: Clock) -> None:
    """Do batch after batch until none is left; a change that is over is left alone."""
    while True:
        with session_factory.begin() as session:
            change = session.get_one(BulkChange, change_id, with_for_update=True)
            if change.state in {BulkState.DONE, BulkState.FAILED}:
                return
            change.state = BulkState.RUNNING
            ids, end = _next(session, change, before=change.before_id, size=BATCH)
            _do(session, change, ids, now=clock())
            if end is None:
                _finish(session, change, now=clock())
            else:
                change.before_id = end


def fail_change(session: Session, *, change_id: int, reason: str, now: datetime) -> None:
    """Say why a change broke off; what was done stays done."""
    change = session.get_one(BulkChange, change_id, with_for_update=True)
    if change.state is not BulkState.DONE:
        change.state, change.message, change.finished_at = BulkState.FAILED, reason, now


def which_of(change: BulkChange) -> ComparisonFilter:
    """The filter of a change as it was confirmed. Its annotator is kept among the details."""
    user_id, external = change.details.get("annotator_id"), change.details.get("external")
    annotator = None
    if external is not None:
        annotator = Annotator(import_id=external[0], external=external[1])
    elif user_id is not None:
        annotator = Annotator(user_id)
    return ComparisonFilter(FilterForm.model_validate(change.filter), [change.campaign_id], annotator)


def annotator_kept(which: ComparisonFilter) -> dict[str, Any]:
    """The annotator of a filter as a change's details keep it, for `which_of`."""
    if which.annotator is None or which.annotator.user_id is not None:
        return {"annotator_id": which.annotator.user_id if which.annotator else None}
    # A worker that is not upgraded yet knows of no names in imports, and finds nobody by this id.
    return {"annotator_id": -1, "external": [which.annotator.import_id, which.annotator.external]}


def _next(session: Session, change: BulkChange, *, before: int, size: int) -> tuple[list[int], int | None]:
    """The next comparisons of a change, and where the batch after them begins."""
    if change.comparison_ids is not None:
        query = text(
            "SELECT id FROM comparisons WHERE id = ANY(:ids) AND campaign_id = :campaign AND id < :before "
            "ORDER BY id DESC LIMIT :size"
        )
        given = {"ids": change.comparison_ids, "campaign": change.campaign_id, "before": before, "size": size}
        ids = list(session.scalars(query, given))
        return ids, ids[-1] if len(ids) == size else None
    page = find_page(session, which_of(change), before=before, size=size)
    return page.ids, page.before


def _gathered(session: Session, change: BulkChange) -> list[int]:
    """All comparisons of a small change, to be done in one transaction: their locks are taken in one order."""
    ids: list[int] = []
    edge: int | None = TOP
    while edge is not None:
        found, edge = _next(session, change, before=edge, size=1000)
        ids += found
    return ids


def _do(session: Session, change: BulkChange, ids: Sequence[int], *, now: datetime) -> None:
    """Do the deed to these comparisons, their judgments or prompts, and count."""
    if not ids:
        return
    touched, done = _DEEDS[change.verb](session, change, list(ids), now)
    change.done += done
    change.passed_over += touched - done


def _reject(session: Session, change: BulkChange, ids: list[int], now: datetime) -> tuple[int, int]:
    which = which_of(change)
    query = f"""SELECT j.id FROM judgments AS j
                WHERE j.comparison_id = ANY(:ids) AND j.id <= :up_to AND {of_judgment(which)} ORDER BY j.id"""  # noqa: S608
    given = {**parameters(session, which), "ids": ids, "up_to": change.judgments_up_to}
    judgment_ids = list(session.scalars(text(query), given))
    grounds = Grounds(change.details["reason"], change.details.get("serves_again", False))
    done = reject_judgments(session, judgment_ids, grounds=grounds, by_id=change.created_by_id, now=now)
    return len(judgment_ids), len(done)


def _prioritise(session: Session, change: BulkChange, ids: list[int], now: datetime) -> tuple[int, int]:
    """Comparisons first, then their slots, as everywhere."""
    given = {"ids": ids, "priority": change.details["priority"]}
    held = "SELECT id FROM comparisons WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"
    session.execute(text(held), given)
    changed = session.scalars(
        text("UPDATE comparisons SET priority = :priority WHERE id = ANY(:ids) AND priority <> :priority RETURNING id"),
        given,
    ).all()
    slots = "UPDATE slots SET priority = :priority WHERE comparison_id = ANY(:ids) AND priority <> :priority"
    session.execute(text(slots), given)
    return len(ids), len(changed)


def _tag(session: Session, change: BulkChange, ids: list[int], now: datetime) -> tuple[int, int]:
    """Tags are added to those that a prompt has; one that cannot take any more is passed over."""
    prompts, done = _prompts(session, ids), 0
    for prompt in prompts:
        try:
            tags = tidy_tags([*prompt.tags, *change.details["tags"]])
        except BadLine:
            continue
        done += tags != prompt.tags
        prompt.tags = tags
    session.flush()
    return len(prompts), done


def _retire(session: Session, change: BulkChange, ids: list[int], now: datetime) -> tuple[int, int]:
    prompts = _prompts(session, ids)
    active = [prompt for prompt in prompts if prompt.state is not PromptState.RETIRED]
    for prompt in active:
        prompt.state, prompt.state_reason = PromptState.RETIRED, ""
    session.flush()
    return len(prompts), len(active)


def _prompts(session: Session, comparison_ids: list[int]) -> list[Prompt]:
    numbers = session.scalars(
        text("SELECT DISTINCT prompt_id FROM comparisons WHERE id = ANY(:ids)"), {"ids": comparison_ids}
    ).all()
    query = select(Prompt).where(Prompt.id.in_(numbers)).order_by(Prompt.id).with_for_update(key_share=True)
    return list(session.scalars(query.execution_options(populate_existing=True)))


_DEEDS = {
    BulkVerb.REJECT: _reject,
    BulkVerb.PRIORITISE: _prioritise,
    BulkVerb.TAG: _tag,
    BulkVerb.RETIRE: _retire,
}


def _finish(session: Session, change: BulkChange, *, now: datetime) -> None:
    change.state, change.finished_at = BulkState.DONE, now
    _record(session, change, "finished", now=now, done=change.done, passed_over=change.passed_over)


def _record(session: Session, change: BulkChange, what: str, *, now: datetime, **details: object) -> None:
    record_deed(
        session,
        action=f"bulk_change.{what}",
        subject=change,
        subject_id=change.id,
        actor_id=change.created_by_id,
        now=now,
        verb=change.verb.value,
        campaign_id=change.campaign_id,
        **details,
    )
