"""How far a campaign is: prompts, comparisons and judgments, counted.

Those tables belong to higher domains (generation, comparisons). They are read here as data, by name, so that a
campaign can say whether it can be opened and how it goes without knowing any code of theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session


@dataclass(frozen=True)
class CampaignProgress:
    """Counts of one campaign. `ready` comparisons have a free slot; `judged` ones have every slot filled."""

    prompts: int = 0
    prompts_set_aside: int = 0
    prompts_retired: int = 0
    comparisons: int = 0
    ready: int = 0
    judged: int = 0
    wanted: int = 0
    filled: int = 0
    comparisons_planned: int = 0
    demonstrations: int = 0
    """Completions that people wrote or corrected, in force."""
    queue_state: str = ""
    """Of the making of completions ahead: making, ready, run_out, stalled; blank where it never began."""
    queue_message: str = ""

    @property
    def share_done(self) -> float | None:
        """Judged comparisons among those that the active prompts will make (0 to 1), or None where there are none."""
        planned = max(self.comparisons_planned, self.comparisons)
        return self.judged / planned if planned else None


@dataclass(frozen=True)
class PersonProgress:
    """What one annotator did in one campaign: judgments in force, counted and surplus; and those set aside."""

    user_id: int
    judgments: int
    surplus: int
    skipped: int
    last_judged_at: datetime | None
    rejected: int = 0
    active_ms: int = 0
    """Time that the page measured, over all that was judged, taken back or not."""

    @property
    def active_minutes(self) -> int:
        """The same for people."""
        return round(self.active_ms / 60_000)


_COUNTS = text(
    """
    WITH of_prompts AS (
      SELECT campaign_id,
             count(*) FILTER (WHERE state = 'active') AS prompts,
             count(*) FILTER (WHERE state = 'set_aside') AS prompts_set_aside,
             count(*) FILTER (WHERE state = 'retired') AS prompts_retired
      FROM prompts WHERE campaign_id IN :ids GROUP BY campaign_id
    ), of_each AS (
      SELECT slots.campaign_id, count(*) AS wanted, count(judgment_id) AS filled,
             count(*) FILTER (WHERE judgment_id IS NULL AND assignment_id IS NULL) AS free
      FROM slots JOIN comparisons ON comparisons.id = slots.comparison_id
      WHERE slots.campaign_id IN :ids AND comparisons.state = 'open'
      GROUP BY slots.campaign_id, slots.comparison_id
    ), of_comparisons AS (
      SELECT campaign_id, count(*) AS comparisons, count(*) FILTER (WHERE free > 0) AS ready,
             count(*) FILTER (WHERE filled = wanted) AS judged,
             sum(wanted)::bigint AS wanted, sum(filled)::bigint AS filled
      FROM of_each GROUP BY campaign_id
    ), written AS (
      SELECT campaign_id, count(*) AS demonstrations FROM demonstrations AS one
      WHERE campaign_id IN :ids
        AND NOT EXISTS (SELECT FROM demonstrations AS later
                        WHERE later.judgment_id = one.judgment_id AND later.number > one.number)
        AND NOT EXISTS (SELECT FROM judgments JOIN judgments AS later USING (assignment_id)
                        WHERE judgments.id = one.judgment_id AND later.revision > judgments.revision)
        AND coalesce((SELECT state FROM rejections WHERE rejections.judgment_id = one.judgment_id
                      ORDER BY number DESC LIMIT 1) <> 'rejected', true)
      GROUP BY campaign_id
    )
    SELECT campaigns.id,
           coalesce(prompts, 0) AS prompts,
           coalesce(prompts_set_aside, 0) AS prompts_set_aside,
           coalesce(prompts_retired, 0) AS prompts_retired,
           coalesce(comparisons, 0) AS comparisons,
           coalesce(ready, 0) AS ready, coalesce(judged, 0) AS judged,
           coalesce(wanted, 0) AS wanted, coalesce(filled, 0) AS filled,
           coalesce(prompts, 0) * comparisons_per_prompt AS comparisons_planned,
           coalesce(demonstrations, 0) AS demonstrations,
           coalesce(campaign_queues.state, '') AS queue_state, coalesce(campaign_queues.message, '') AS queue_message
    FROM campaigns
    LEFT JOIN campaign_queues ON campaign_queues.campaign_id = campaigns.id
    LEFT JOIN written ON written.campaign_id = campaigns.id
    LEFT JOIN of_prompts ON of_prompts.campaign_id = campaigns.id
    LEFT JOIN of_comparisons ON of_comparisons.campaign_id = campaigns.id
    WHERE campaigns.id IN :ids
    """
).bindparams(bindparam("ids", expanding=True))

_BY_PERSON = text(
    """
    WITH of_judgments AS (
      SELECT judgments.annotator_id AS user_id, count(*) FILTER (WHERE NOT rejection.rejected) AS judgments,
             count(*) FILTER (WHERE judgments.surplus AND NOT rejection.rejected) AS surplus,
             count(*) FILTER (WHERE rejection.rejected) AS rejected, max(judgments.judged_at) AS last_judged_at
      FROM judgments JOIN comparisons ON comparisons.id = judgments.comparison_id
      CROSS JOIN LATERAL (SELECT coalesce((
        SELECT state = 'rejected' FROM rejections WHERE judgment_id = judgments.id ORDER BY number DESC LIMIT 1),
        false) AS rejected) AS rejection
      WHERE comparisons.campaign_id = :id AND judgments.state = 'given' AND judgments.annotator_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM judgments AS later
                        WHERE later.assignment_id = judgments.assignment_id AND later.revision > judgments.revision)
      GROUP BY judgments.annotator_id
    ), of_skips AS (
      SELECT annotator_id AS user_id, count(*) AS skipped
      FROM assignments WHERE campaign_id = :id AND state = 'skipped' GROUP BY annotator_id
    ), of_time AS (
      SELECT judgments.annotator_id AS user_id, CAST(sum(active_ms) AS bigint) AS active_ms
      FROM judgments JOIN comparisons ON comparisons.id = judgments.comparison_id
      WHERE comparisons.campaign_id = :id AND active_ms IS NOT NULL GROUP BY judgments.annotator_id
    )
    SELECT user_id, coalesce(judgments, 0) AS judgments, coalesce(surplus, 0) AS surplus,
           coalesce(rejected, 0) AS rejected, coalesce(skipped, 0) AS skipped, last_judged_at,
           coalesce(active_ms, 0) AS active_ms
    FROM of_judgments FULL JOIN of_skips USING (user_id) LEFT JOIN of_time USING (user_id)
    """
)


def progress_by_campaign(session: Session, campaign_ids: Iterable[int]) -> dict[int, CampaignProgress]:
    """Counts of each of these campaigns, in one query."""
    ids = list(campaign_ids)
    if not ids:
        return {}
    rows = session.execute(_COUNTS, {"ids": ids}).mappings()
    return {row["id"]: CampaignProgress(**{name: row[name] for name in row if name != "id"}) for row in rows}


def campaign_progress(session: Session, campaign_id: int) -> CampaignProgress:
    """Counts of one campaign."""
    return progress_by_campaign(session, [campaign_id])[campaign_id]


def progress_by_person(session: Session, campaign_id: int) -> dict[int, PersonProgress]:
    """What each annotator did, by user id; also of those whose enrolment has ended."""
    rows = session.execute(_BY_PERSON, {"id": campaign_id}).mappings()
    return {row["user_id"]: PersonProgress(**row) for row in rows}
