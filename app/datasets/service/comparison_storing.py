"""One batch of parsed comparisons into the tables, in a handful of statements whatever the batch's size."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, func, select, update
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.comparisons.models import Comparison, ComparisonCompletion, ComparisonState
from app.comparisons.ranking import parse_ranking, to_completions
from app.datasets.bulk import copy_rows, draw_ids
from app.datasets.house import HouseComparison, HouseDemonstration, HouseJudgment
from app.datasets.service.judged import version_names
from app.generation.models import Completion, Import, Prompt
from app.generation.normalising import messages_sha256, text_sha256
from app.generation.prompt_lines import PromptDraft
from app.generation.service.prompts import insert_prompts

Identity = tuple[str, frozenset[tuple[str, str | None]]]
"""Hash of the prompt, and of each completion the hash and the model's name: what makes two comparisons the same."""


@dataclass(frozen=True)
class Parsed:
    """A comparison from a file with the hashes that say whether it is there already."""

    comparison: HouseComparison
    messages: list[dict[str, str]]
    prompt_sha256: str
    completion_sha256s: tuple[str, ...]

    @classmethod
    def of(cls, comparison: HouseComparison) -> "Parsed":
        """Hash the texts as normalised."""
        messages = [{"role": message.role, "content": message.content} for message in comparison.prompt]
        return cls(comparison, messages, messages_sha256(messages), comparison.completion_sha256s)

    @property
    def identity(self) -> Identity:
        """What tells this comparison apart from others."""
        models = (completion.model for completion in self.comparison.completions)
        return self.prompt_sha256, frozenset(zip(self.completion_sha256s, models, strict=True))


@dataclass(frozen=True)
class Stored:
    """What a batch came to."""

    added: int
    judgments: int
    prompts: int
    duplicates: int


@dataclass(frozen=True)
class _Placed:
    """A comparison that is about to be written, with the ids that its rows will have."""

    parsed: Parsed
    id: int
    prompt_id: int
    completion_ids: list[int]
    judgment_ids: list[int]
    written_ids: list[int]
    """Of the completions that annotators wrote, in the order of their judgments."""


def store_comparisons(session: Session, *, record: Import, lines: Sequence[Parsed], now: datetime) -> Stored:
    """Write comparisons that are not there yet, with prompts, completions, slots and judgments.

    A comparison is there already when one of the same prompt has the same set of completions (texts as normalised,
    and the models that wrote them); of a prompt that is written for, that is the draft, or none.
    Judgments fill slots; a comparison whose judgments fill all of them is not handed out.
    """
    campaign = session.get_one(Campaign, record.campaign_id)
    known = _known_prompts(session, campaign_id=campaign.id, lines=lines)
    fresh = _without_duplicates(lines, _known_comparisons(session, known))
    prompt_ids = _add_prompts(session, record=record, lines=fresh, known=known, now=now)
    placed = _place(session, fresh, prompt_ids)
    _copy_completions(session, placed, record=record, now=now)
    _copy_comparisons(session, placed, campaign=campaign, record=record, now=now)
    _copy_judgments(session, placed, record=record, now=now)
    _copy_slots(session, placed, campaign=campaign)
    _copy_demonstrations(session, placed, record=record, now=now)
    return Stored(
        added=len(fresh),
        judgments=sum(len(each.judgment_ids) for each in placed),
        prompts=len({line.prompt_sha256 for line in fresh} - known.keys()),
        duplicates=len(lines) - len(fresh),
    )


def _known_prompts(session: Session, *, campaign_id: int, lines: Iterable[Parsed]) -> dict[str, int]:
    """Ids of the campaign's prompts among these, by hash."""
    hashes = list({line.prompt_sha256 for line in lines})
    query = select(Prompt.text_sha256, Prompt.id).where(
        Prompt.campaign_id == campaign_id, Prompt.text_sha256 == func.any(bindparam("hashes", hashes, ARRAY(Text)))
    )
    return {row.text_sha256: row.id for row in session.execute(query)}


def _known_comparisons(session: Session, known: dict[str, int]) -> set[Identity]:
    """What tells apart the comparisons that these prompts have."""
    if not known:
        return set()
    query = (
        select(
            Prompt.text_sha256,
            func.array_agg(Completion.normalised_sha256),
            func.array_agg(Completion.model_label),
            func.array_agg(Completion.model_version_id),
        )
        .select_from(Comparison)
        .join(Prompt, Comparison.prompt_id == Prompt.id)
        .join(ComparisonCompletion, ComparisonCompletion.comparison_id == Comparison.id, isouter=True)
        .join(Completion, ComparisonCompletion.completion_id == Completion.id, isouter=True)
        .where(Comparison.prompt_id.in_(known.values()), Comparison.state == ComparisonState.OPEN)
        .group_by(Comparison.id, Prompt.text_sha256)
    )
    names = version_names(session)
    return {
        (
            sha256,
            frozenset(
                (text, names[version_id] if version_id is not None else label)
                for text, label, version_id in zip(texts, labels, version_ids, strict=True)
                if text is not None  # a prompt alone
            ),
        )
        for sha256, texts, labels, version_ids in session.execute(query)
    }


def _without_duplicates(lines: Sequence[Parsed], there: set[Identity]) -> list[Parsed]:
    fresh = []
    for line in lines:
        if line.identity not in there:
            there.add(line.identity)
            fresh.append(line)
    return fresh


def _add_prompts(
    session: Session, *, record: Import, lines: Sequence[Parsed], known: dict[str, int], now: datetime
) -> dict[str, int]:
    """Ids of all prompts of these lines, by hash; new ones are added, known ones gain tags and metadata."""
    drafts: dict[str, PromptDraft] = {}
    for line in lines:
        tags, details = line.comparison.tags, line.comparison.metadata
        before = drafts.get(line.prompt_sha256, PromptDraft(line.messages, line.prompt_sha256))
        drafts[line.prompt_sha256] = replace(
            before, tags=list(dict.fromkeys([*before.tags, *tags])), details={**details, **before.details}
        )
    missing = [draft for sha256, draft in drafts.items() if sha256 not in known]
    insert_prompts(session, missing, campaign_id=record.campaign_id, import_id=record.id, now=now)
    _extend_prompts(session, {known[sha256]: drafts[sha256] for sha256 in drafts.keys() & known.keys()})
    return _known_prompts(session, campaign_id=record.campaign_id, lines=lines)


def _extend_prompts(session: Session, drafts: dict[int, PromptDraft]) -> None:
    """Add tags and metadata that prompts lack; what they have stays as it is."""
    said = [prompt_id for prompt_id, draft in drafts.items() if draft.tags or draft.details]
    query = select(Prompt.id, Prompt.tags, Prompt.details).where(Prompt.id.in_(said))
    changed = []
    for prompt_id, tags, details in session.execute(query) if said else ():
        merged = list(dict.fromkeys([*tags, *drafts[prompt_id].tags]))
        both = {**drafts[prompt_id].details, **details}
        if (merged, both) != (tags, details):
            changed.append({"id": prompt_id, "tags": merged, "details": both})
    if changed:
        session.execute(update(Prompt), changed)


def _place(session: Session, lines: Sequence[Parsed], prompt_ids: dict[str, int]) -> list[_Placed]:
    """Draw the ids of all rows to come."""
    ids = iter(draw_ids(session, "comparisons", len(lines)))
    completions = iter(draw_ids(session, "completions", sum(len(line.completion_sha256s) for line in lines)))
    judgments = iter(draw_ids(session, "judgments", sum(len(line.comparison.judgments) for line in lines)))
    written = iter(draw_ids(session, "completions", sum(len(_demonstrations(line.comparison)) for line in lines)))
    return [
        _Placed(
            parsed=line,
            id=next(ids),
            prompt_id=prompt_ids[line.prompt_sha256],
            completion_ids=[next(completions) for _ in line.completion_sha256s],
            judgment_ids=[next(judgments) for _ in line.comparison.judgments],
            written_ids=[next(written) for _ in _demonstrations(line.comparison)],
        )
        for line in lines
    ]


COMPLETION_COLUMNS = (
    *("id", "prompt_id", "source", "text", "normalised_sha256", "model_label", "import_id", "temperature", "top_p"),
    *("max_tokens", "seed", "finish_reason", "created_at"),
)


def _copy_completions(session: Session, placed: Iterable[_Placed], *, record: Import, now: datetime) -> None:
    rows = []
    for each in placed:
        given = each.parsed.comparison.completions
        for number, completion in enumerate(given):
            sampling = completion.sampling
            drawn = (
                (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed, sampling.finish_reason)
                if sampling
                else (None,) * 5
            )
            about = (completion.text, each.parsed.completion_sha256s[number], completion.model)
            identity = (each.completion_ids[number], each.prompt_id, "imported")
            rows.append((*identity, *about, record.id, *drawn, now))
    copy_rows(session, "completions", COMPLETION_COLUMNS, rows)


def _copy_comparisons(
    session: Session, placed: Sequence[_Placed], *, campaign: Campaign, record: Import, now: datetime
) -> None:
    columns = ("id", "campaign_id", "prompt_id", "redundancy", "import_id", "external_id", "created_at")
    rows = [
        (
            *(each.id, campaign.id, each.prompt_id, _redundancy(each.parsed.comparison, campaign)),
            *(record.id, each.parsed.comparison.id, now),
        )
        for each in placed
    ]
    copy_rows(session, "comparisons", columns, rows)
    members = [
        (each.id, completion_id, position)
        for each in placed
        for position, completion_id in enumerate(each.completion_ids, start=1)
    ]
    copy_rows(session, "comparison_completions", ("comparison_id", "completion_id", "position"), members)


def _redundancy(comparison: HouseComparison, campaign: Campaign) -> int:
    """Judgments wanted: what the line says, else the campaign; never fewer than there are."""
    return max(comparison.redundancy or campaign.redundancy, comparison.counted_judgments)


JUDGMENT_COLUMNS = (
    *("id", "comparison_id", "external_annotator", "import_id", "ranking", "all_bad", "strengths", "criteria"),
    *("ratings", "flags", "spans", "rationale", "confidence", "active_ms", "surplus", "judged_at"),
)


def _copy_judgments(session: Session, placed: Iterable[_Placed], *, record: Import, now: datetime) -> None:
    rows = []
    for each in placed:
        for judgment_id, judgment in zip(each.judgment_ids, each.parsed.comparison.judgments, strict=True):
            verdict = _verdict(judgment, each.completion_ids)
            who = (judgment_id, each.id, judgment.annotator, record.id)
            about = (judgment.rationale, judgment.confidence, judgment.active_ms, judgment.surplus)
            rows.append((*who, *verdict, *about, judgment.judged_at or now))
    copy_rows(session, "judgments", JUDGMENT_COLUMNS, rows)


def _verdict(judgment: HouseJudgment, ids: list[int]) -> tuple[Any, ...]:
    """Ranking, all_bad, strengths, criteria, ratings, flags and spans as stored: by completion id, JSON as text.

    The ranking is empty where somebody wrote for a prompt, and nothing was compared.
    """
    ranking: list[list[int]] | None = [] if len(ids) < 2 else None
    if judgment.ranking is not None:
        ranking = _as_ids(judgment.ranking, ids)
    criteria = {name: _as_ids(given, ids) for name, given in (judgment.criteria or {}).items()}
    ratings = judgment.ratings and {str(ids[int(place) - 1]): value for place, value in judgment.ratings.items()}
    flags = judgment.flags and {str(ids[int(place) - 1]): value for place, value in judgment.flags.items()}
    spans = {
        str(ids[int(place) - 1]): [span.as_stored() for span in sorted(each.as_span() for each in given)]
        for place, given in (judgment.spans or {}).items()
        if given
    }
    return (
        *(_json(ranking), judgment.all_bad, _json(judgment.strengths or None)),
        *(_json(criteria or None), _json(ratings or None), _json(flags or None), _json(spans or None)),
    )


def _as_ids(ranking: str, ids: list[int]) -> list[list[int]]:
    return to_completions(parse_ranking(ranking, len(ids)), ids)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _copy_slots(session: Session, placed: Iterable[_Placed], *, campaign: Campaign) -> None:
    """As many slots as judgments are wanted; the first ones filled by those that came along."""
    rows = []
    for each in placed:
        comparison = each.parsed.comparison
        pairs = zip(each.judgment_ids, comparison.judgments, strict=True)
        counted = [judgment_id for judgment_id, judgment in pairs if not judgment.surplus]
        for number in range(1, _redundancy(comparison, campaign) + 1):
            filled_by = counted[number - 1] if number <= len(counted) else None
            rows.append((each.id, number, campaign.id, filled_by))
    copy_rows(session, "slots", ("comparison_id", "number", "campaign_id", "judgment_id"), rows)


def _demonstrations(comparison: HouseComparison) -> list[tuple[int, HouseJudgment, HouseDemonstration]]:
    """What annotators wrote, each with its judgment and that one's place among all."""
    judgments = enumerate(comparison.judgments)
    return [(place, each, each.demonstration) for place, each in judgments if each.demonstration is not None]


DEMONSTRATION_COLUMNS = ("campaign_id", "prompt_id", "completion_id", "corrects_id", "judgment_id", "created_at")


def _copy_demonstrations(session: Session, placed: Iterable[_Placed], *, record: Import, now: datetime) -> None:
    """What annotators wrote, as completions of the import; who it was is said by the judgment."""
    completions, rows = [], []
    for each in placed:
        for written_id, (place, judgment, given) in zip(
            each.written_ids, _demonstrations(each.parsed.comparison), strict=True
        ):
            at = given.written_at or judgment.judged_at or now
            text = (given.text, text_sha256(given.text))
            completions.append((written_id, each.prompt_id, "imported", *text, record.id, at))
            corrects = None if given.corrects is None else each.completion_ids[given.corrects - 1]
            about = (written_id, corrects, each.judgment_ids[place])
            rows.append((record.campaign_id, each.prompt_id, *about, at))
    columns = ("id", "prompt_id", "source", "text", "normalised_sha256", "import_id", "created_at")
    copy_rows(session, "completions", columns, completions)
    copy_rows(session, "demonstrations", DEMONSTRATION_COLUMNS, rows)
