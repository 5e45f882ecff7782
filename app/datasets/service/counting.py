"""How much there is to freeze: judgments, and the pairs that training would make of them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.datasets.models import SnapshotState


@dataclass(frozen=True)
class Counts:
    """Judgments in force that count towards redundancy, and what they come to under the default policy.

    `pairs` are preference pairs on either side of the held-out line, `train` and `eval` those on each;
    `ties` and `all_bad` are judgments that make none; `rejected` ones, which were set aside, are in no other count.
    `since_last` judgments came after the scope's last finished snapshot. `demonstrations` counts all that people wrote,
    what they wrote anew included.
    """

    judgments: int
    pairs: int
    ties: int
    all_bad: int
    train: int
    eval: int
    surplus: int
    rejected: int
    prompts: int
    annotators: int
    since_last: int
    demonstrations: int
    last_frozen_at: datetime | None


_QUERY = text(
    """
    WITH last AS (
      SELECT max(s.as_of) AS as_of FROM snapshots s
      WHERE s.state = :ready AND CASE WHEN CAST(:campaign_id AS int) IS NULL
        THEN s.campaign_id IS NULL AND s.line_id = :line_id ELSE s.campaign_id = :campaign_id END
    ), judged AS (
      SELECT j.surplus AND NOT rejection.rejected AS surplus, NOT j.surplus AND NOT rejection.rejected AS counted,
             rejection.rejected, j.ranking, j.all_bad, p.id AS prompt_id, p.split,
             CASE WHEN j.import_id IS NULL THEN j.judged_at ELSE coalesce(i.finished_at, 'infinity') END AS came_at,
             coalesce(j.annotator_id::text, j.import_id || ':' || j.external_annotator) AS annotator,
             c.kind IN ('ordinary', 'adjudication') AS trained_on,
             (SELECT (sum(n) * (sum(n) - 1) - sum(n * (n - 1))) / 2
              FROM (SELECT jsonb_array_length(g) AS n FROM jsonb_array_elements(j.ranking) AS g) AS sizes) AS pairs
      FROM judgments j
      JOIN comparisons c ON c.id = j.comparison_id
      JOIN prompts p ON p.id = c.prompt_id
      JOIN campaigns k ON k.id = c.campaign_id
      LEFT JOIN imports i ON i.id = j.import_id
      CROSS JOIN LATERAL (SELECT coalesce((
        SELECT r.state = 'rejected' FROM rejections r
        WHERE r.judgment_id = j.id AND r.at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')
        ORDER BY r.number DESC LIMIT 1), false) AS rejected) AS rejection
      WHERE CASE WHEN CAST(:campaign_id AS int) IS NULL THEN k.line_id = :line_id ELSE k.id = :campaign_id END
        AND j.state = 'given' AND k.kind <> 'demonstration'
        AND j.judged_at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')
        AND NOT EXISTS (
          SELECT FROM judgments later
          WHERE later.assignment_id = j.assignment_id AND later.revision > j.revision
            AND later.judged_at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')
        )
    )
    SELECT count(*) FILTER (WHERE counted) AS judgments,
           coalesce(sum(pairs) FILTER (WHERE counted AND trained_on AND split IS NOT NULL), 0) AS pairs,
           count(*) FILTER (WHERE counted AND coalesce(pairs, 0) = 0 AND NOT all_bad) AS ties,
           count(*) FILTER (WHERE counted AND coalesce(pairs, 0) = 0 AND all_bad) AS all_bad,
           coalesce(sum(pairs) FILTER (WHERE counted AND trained_on AND split = 'train'), 0) AS train,
           coalesce(sum(pairs) FILTER (WHERE counted AND trained_on AND split = 'eval'), 0) AS eval,
           count(*) FILTER (WHERE surplus) AS surplus,
           count(*) FILTER (WHERE rejected) AS rejected,
           count(DISTINCT prompt_id) FILTER (WHERE counted) AS prompts,
           count(DISTINCT annotator) FILTER (WHERE counted) AS annotators,
           count(*) FILTER (WHERE counted AND came_at > coalesce(last.as_of, '-infinity')) AS since_last,
           (SELECT count(*) FROM demonstrations d JOIN campaigns k ON k.id = d.campaign_id
            WHERE d.created_at <= coalesce(CAST(:as_of AS timestamptz), 'infinity')
              AND CASE WHEN CAST(:campaign_id AS int) IS NULL THEN k.line_id = :line_id ELSE k.id = :campaign_id END
           ) AS demonstrations,
           last.as_of AS last_frozen_at
    FROM last LEFT JOIN judged ON true
    GROUP BY last.as_of
    """
)


def judgment_counts(
    session: Session, *, line_id: int | None = None, campaign_id: int | None = None, as_of: datetime | None = None
) -> Counts:
    """Count what a snapshot of one campaign, or else of every campaign of a line, would hold.

    An imported judgment came when its import ended, however long ago it was made.
    """
    values = {"line_id": line_id, "campaign_id": campaign_id, "as_of": as_of, "ready": SnapshotState.READY.value}
    row = session.execute(_QUERY, values).one()
    numbers = {name: int(value) for name, value in row._mapping.items() if name != "last_frozen_at"}
    return Counts(**numbers, last_frozen_at=row.last_frozen_at)
