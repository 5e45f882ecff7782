"""What people did, counted by campaign and week: for themselves, and for whoever pays them.

**Active time** is what the page measured: in view, and the person at it within the last half minute. It is the time of
judging, and no more than that: skips, changes in the history, work without scripts and reading beside the page are not
in it. So the counts stand beside it, and how many judgments came without a time.
"""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.comparisons.service.presenting import MOST_LEFT, count_left
from app.wording import gettext as _


@dataclass(frozen=True)
class WorkWeek:
    """One person's work in one campaign in one week; `week` is its Monday, in UTC.

    `judged` are judgments in force, also those that were `set_aside` later; `untimed` of them came without a time.
    `active_ms` is of all that was judged, taken back or not.
    """

    user_id: int
    name: str
    campaign_id: int
    campaign: str
    week: date
    judged: int
    set_aside: int
    untimed: int
    skipped: int
    active_ms: int

    @property
    def active_time(self) -> str:
        """For people, to the minute."""
        return in_hours(self.active_ms)


def in_hours(active_ms: float) -> str:
    """A time in hours and minutes."""
    hours, minutes = divmod(round(active_ms / 60_000), 60)
    return _("%(hours)s h %(minutes)s min", hours=hours, minutes=minutes) if hours else _("%(n)s min", n=minutes)


_WORK = """
    WITH done AS (
      SELECT judgments.annotator_id AS user_id, comparisons.campaign_id, judgments.judged_at AS at,
             0 AS judged, 0 AS set_aside, 0 AS untimed, 0 AS skipped, coalesce(judgments.active_ms, 0) AS active_ms
      FROM judgments JOIN comparisons ON comparisons.id = judgments.comparison_id
      WHERE {of_judgments}
      UNION ALL
      SELECT judgments.annotator_id, comparisons.campaign_id, coalesce(assignments.closed_at, judgments.judged_at),
             1, CAST(rejection.rejected AS integer), CAST(NOT EXISTS (
               SELECT FROM judgments AS timed WHERE timed.assignment_id = judgments.assignment_id
                 AND timed.active_ms IS NOT NULL) AS integer), 0, 0
      FROM judgments JOIN comparisons ON comparisons.id = judgments.comparison_id
      LEFT JOIN assignments ON assignments.id = judgments.assignment_id
      CROSS JOIN LATERAL (SELECT coalesce((
        SELECT state = 'rejected' FROM rejections WHERE judgment_id = judgments.id ORDER BY number DESC LIMIT 1),
        false) AS rejected) AS rejection
      WHERE {of_judgments} AND judgments.state = 'given'
        AND NOT EXISTS (SELECT FROM judgments AS later
                        WHERE later.assignment_id = judgments.assignment_id AND later.revision > judgments.revision)
      UNION ALL
      SELECT annotator_id, campaign_id, closed_at, 0, 0, 0, 1, 0
      FROM assignments WHERE {of_assignments} AND state = 'skipped'
    )
    SELECT user_id, users.name, campaign_id, campaigns.name AS campaign,
           CAST(date_trunc('week', at AT TIME ZONE 'UTC') AS date) AS week,
           CAST(sum(judged) AS integer) AS judged, CAST(sum(set_aside) AS integer) AS set_aside,
           CAST(sum(untimed) AS integer) AS untimed, CAST(sum(skipped) AS integer) AS skipped,
           CAST(sum(active_ms) AS bigint) AS active_ms
    FROM done JOIN users ON users.id = user_id JOIN campaigns ON campaigns.id = campaign_id
    GROUP BY user_id, users.name, campaign_id, campaigns.name, week
    ORDER BY week DESC, campaigns.name, campaign_id, users.name, user_id
"""
_OF_PERSON = text(
    _WORK.format(of_judgments="judgments.annotator_id = :id", of_assignments="assignments.annotator_id = :id")
)
_OF_CAMPAIGN = text(
    _WORK.format(
        of_judgments="comparisons.campaign_id = :id AND judgments.annotator_id IS NOT NULL",
        of_assignments="assignments.campaign_id = :id",
    )
)


def work_of_person(session: Session, user_id: int) -> list[WorkWeek]:
    """Everything that a person did, the newest week first; also where they no longer judge."""
    return [WorkWeek(*row) for row in session.execute(_OF_PERSON, {"id": user_id})]


def work_in_campaign(session: Session, campaign_id: int) -> list[WorkWeek]:
    """Everything that was done in a campaign, by person and week, the newest week first."""
    return [WorkWeek(*row) for row in session.execute(_OF_CAMPAIGN, {"id": campaign_id})]


LEAST_FOR_A_PACE = 5
_PACE = text(
    """
    SELECT count(*) AS judged, percentile_cont(0.5) WITHIN GROUP (ORDER BY active_ms) AS median_ms FROM (
      SELECT judgments.active_ms FROM judgments JOIN comparisons ON comparisons.id = judgments.comparison_id
      WHERE judgments.annotator_id = :user_id AND comparisons.campaign_id = :campaign_id
        AND judgments.active_ms IS NOT NULL
      ORDER BY judgments.judged_at DESC LIMIT 200) AS timed
    """
)


def own_pace(session: Session, *, campaign_id: int, user_id: int) -> float | None:
    """Half of a person's last judgments in a campaign took no longer than this, in milliseconds of active time.

    None where fewer than five have a time: too few to say.
    """
    row = session.execute(_PACE, {"campaign_id": campaign_id, "user_id": user_id}).one()
    return float(row.median_ms) if row.judged >= LEAST_FOR_A_PACE else None


@dataclass(frozen=True)
class Ahead:
    """What is left for a person in a campaign, and about how long it takes at their pace; blank where none is known.

    `left` is as large as MOST_LEFT where it may be more; then there is no time to tell.
    """

    left: int
    takes: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether `left` is all there is."""
        return self.left < MOST_LEFT


def ahead_of(session: Session, *, campaign_id: int, user_id: int) -> Ahead:
    """What is left for a person in a campaign that hands out comparisons."""
    left = min(count_left(session, campaign_id=campaign_id, annotator_id=user_id), MOST_LEFT)
    pace = own_pace(session, campaign_id=campaign_id, user_id=user_id) if 0 < left < MOST_LEFT else None
    return Ahead(left, takes="" if pace is None else in_hours(max(60_000, left * pace)))


@dataclass(frozen=True)
class Work:
    """Work of several weeks together."""

    judged: int = 0
    set_aside: int = 0
    untimed: int = 0
    skipped: int = 0
    active_ms: int = 0

    @property
    def active_time(self) -> str:
        """For people, to the minute."""
        return in_hours(self.active_ms)


def together(weeks: list[WorkWeek]) -> Work:
    """The sum of some weeks."""
    return Work(
        judged=sum(week.judged for week in weeks),
        set_aside=sum(week.set_aside for week in weeks),
        untimed=sum(week.untimed for week in weeks),
        skipped=sum(week.skipped for week in weeks),
        active_ms=sum(week.active_ms for week in weeks),
    )
