"""Thirty-two people at once, as careless as people are: each comparison still ends with exactly its judgments."""

import random
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.comparisons.models import AssignmentState
from app.comparisons.service.desk import HeldAssignment, hold_assignment, hold_desk
from app.comparisons.service.judging import Recorded, Verdict, record_judgment, retract, skip
from app.comparisons.service.leasing import Lease, expire_leases, lease_next, renew
from app.comparisons.service.turning_over import turn_over
from app.database import make_engine
from app.errors import Conflict
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.deployments import deploy, make_version
from tests.factories.generation import make_prompt

PEOPLE = 32
COMPARISONS = 300
CROWDED = 60
"""Comparisons on which all of them send a late verdict at the same moment."""
LASTS = timedelta(minutes=30)
LEFT = Verdict(ranking="1>2")

Submission = tuple[uuid.UUID, uuid.UUID]
"""An assignment and the idempotency key of a verdict on it."""


class JumpyClock:
    """A clock that all threads share; it jumps past every lease now and then."""

    def __init__(self) -> None:
        self._now = NOW
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        return self._now

    def jump(self) -> None:
        """Let every lease that is out run out."""
        with self._lock:
            self._now += LASTS + timedelta(minutes=1)


@dataclass
class Office:
    """A campaign with everybody who judges in it, and what they were told."""

    sessions: sessionmaker[Session]
    campaign_id: int
    people: list[int]
    clock: JumpyClock = field(default_factory=JumpyClock)
    submitted: dict[int, list[Submission]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: dict[tuple[int, uuid.UUID], set[int]] = field(default_factory=lambda: defaultdict(set))
    happened: Counter[str] = field(default_factory=Counter)

    def expire(self) -> None:
        """Let every lease that is out run out, and take back what can be had at once."""
        self.clock.jump()
        with self.sessions.begin() as session:
            expire_leases(session, now=self.clock())


@dataclass
class Person:
    """One browser tab: somebody's requests, in an order drawn from `rng`. Others may have the same desk."""

    office: Office
    id: int
    rng: random.Random
    aside: list[uuid.UUID] = field(default_factory=list)

    def lease(self) -> Lease | None:
        """Open the page."""
        with self.office.sessions.begin() as session:
            hold_desk(session, annotator_id=self.id)
            return self._next(session)

    def judge(self, assignment_id: uuid.UUID, key: uuid.UUID | None = None) -> None:
        """Send a verdict, a new one or one that was sent before, and take the next comparison with the answer."""
        key = key or uuid.uuid4()
        self.office.submitted[self.id].append((assignment_id, key))
        with self.office.sessions.begin() as session:
            held = self.hold(session, assignment_id)
            recorded = record_judgment(session, assignment=held, verdict=LEFT, key=key, now=self.office.clock())
            if not recorded.replayed:
                self._next(session, none_open=held.state is AssignmentState.OPEN)
        self.office.acknowledged[self.id, key].add(recorded.judgment_id)
        self.note(held, recorded)

    def skip(self, assignment_id: uuid.UUID) -> None:
        """Pass on what is on the screen."""
        with self.office.sessions.begin() as session:
            skip(session, assignment=self.hold(session, assignment_id), reason="", now=self.office.clock())
        self.office.happened["skip"] += 1

    def replay(self) -> None:
        """Send one of the last verdicts again; the first sending may still be under way in another tab."""
        submitted = self.office.submitted[self.id]
        if submitted:
            self.judge(*self.rng.choice(submitted[-5:]))

    def undo(self) -> None:
        """Take a recent verdict back."""
        submitted = self.office.submitted[self.id]
        if not submitted:
            return
        with self.office.sessions.begin() as session:
            held = self.hold(session, self.rng.choice(submitted[-5:])[0])
            try:
                retract(session, assignment=held, key=uuid.uuid4(), lasts=LASTS, now=self.office.clock())
            except Conflict:  # a manager set it aside
                self.office.happened["undo refused"] += 1
                return
        self.office.happened["undo"] += held.state is AssignmentState.JUDGED

    def come_back(self) -> None:
        """Judge what was put aside a while ago, or show that one is still at it."""
        if not self.aside:
            return
        if self.rng.random() < 0.3:
            with self.office.sessions.begin() as session:
                held = self.hold(session, self.rng.choice(self.aside))
                renew(session, assignment=held, lasts=LASTS, now=self.office.clock())
        else:
            self.judge(self.aside.pop(0))

    def hold(self, session: Session, assignment_id: uuid.UUID) -> HeldAssignment:
        """Begin a request about an assignment of theirs."""
        return hold_assignment(session, assignment_id=assignment_id, annotator_id=self.id)

    def _next(self, session: Session, *, none_open: bool = False) -> Lease | None:
        return lease_next(
            session,
            campaign_id=self.office.campaign_id,
            annotator_id=self.id,
            lasts=LASTS,
            now=self.office.clock(),
            none_open=none_open,
        )

    def note(self, held: HeldAssignment, recorded: Recorded) -> None:
        """Remember what came of a verdict."""
        what = "replay" if recorded.replayed else f"verdict on {held.state.value}"
        self.office.happened[what] += 1
        self.office.happened["surplus"] += recorded.surplus and not recorded.replayed


def carelessly(person: Person) -> int:
    """Work until nothing is left at this moment; how many comparisons were on the screen."""
    seen = 0
    while (lease := person.lease()) is not None:
        seen += 1
        dice = person.rng.random()
        if dice < 0.10:
            person.aside.append(lease.assignment_id)
            person.come_back()
        if dice < 0.03:
            person.office.expire()
        elif dice < 0.06:
            person.skip(lease.assignment_id)
        else:
            person.judge(lease.assignment_id)
        for sometimes, act in ((0.06, person.undo), (0.08, person.replay), (0.10, person.come_back)):
            if person.rng.random() < sometimes:
                act()
    return seen


def carefully(person: Person) -> int:
    """Judge whatever is left; how many that were."""
    seen = 0
    while (lease := person.lease()) is not None:
        seen += 1
        person.judge(lease.assignment_id)
    return seen


def all_at_once(office: Office, work: Callable[[Person], int], *, seed: int) -> int:
    """A thread for each of 32 tabs; every fourth is a second tab of a neighbour. Raises what any of them raised."""
    desks = [office.people[number - (number % 4 == 3)] for number in range(PEOPLE)]
    tabs = [Person(office, desk, random.Random(f"{seed}-{number}")) for number, desk in enumerate(desks)]
    if work is carefully:
        tabs = [Person(office, desk, random.Random(seed)) for desk in office.people]
    with ThreadPoolExecutor(len(tabs)) as pool:
        return sum(pool.map(work, tabs))


@pytest.fixture
def office(fresh_database: str, redundancy: int) -> Iterator[Office]:
    """An open campaign of 300 comparisons and 32 annotators, committed in a database of its own."""
    engine = make_engine(fresh_database, pool_size=40)
    sessions = sessionmaker(engine, expire_on_commit=False)
    with sessions.begin() as session:
        campaign = make_campaign(session, redundancy=redundancy)
        people = [make_user(session) for _ in range(PEOPLE)]
        for person in people:
            enrol(session, person, campaign)
        prompt = make_prompt(session, campaign)
        for _ in range(COMPARISONS):
            make_comparison(session, campaign, prompt=prompt, redundancy=redundancy)
        office = Office(sessions, campaign.id, [person.id for person in people])
    yield office
    engine.dispose()


FILLED = text(
    """
    SELECT comparisons.id, comparisons.redundancy, count(*) AS slots,
           count(*) FILTER (WHERE judgments.state = 'given' AND NOT judgments.surplus
                            AND judgments.annotator_id = assignments.annotator_id
                            AND assignments.id = slots.assignment_id AND assignments.state = 'judged'
                            AND judgments.revision = (SELECT max(revision) FROM judgments AS own
                                                      WHERE own.assignment_id = assignments.id)) AS counted,
           count(DISTINCT judgments.annotator_id) AS annotators
    FROM comparisons JOIN slots ON slots.comparison_id = comparisons.id
    LEFT JOIN judgments ON judgments.id = slots.judgment_id
    LEFT JOIN assignments ON assignments.id = judgments.assignment_id
    GROUP BY comparisons.id
    """
)
# Of every assignment that ended judged: its verdict in force either fills a slot or says that it is surplus.
WRONGLY_FLAGGED = text(
    """
    SELECT count(*) FROM judgments JOIN assignments ON assignments.id = judgments.assignment_id
    WHERE judgments.state = 'given'
      AND judgments.revision = (SELECT max(revision) FROM judgments AS own WHERE own.assignment_id = assignments.id)
      AND judgments.surplus = EXISTS (SELECT FROM slots WHERE slots.judgment_id = judgments.id)
    """
)


def judge_to_the_end(office: Office, *, redundancy: int) -> None:
    """Until nobody finds anything left to judge, leases that were walked away from included."""
    while True:
        office.expire()
        if all_at_once(office, carefully, seed=redundancy) == 0:
            break


def assert_exact(session: Session, *, redundancy: int) -> None:
    """Every comparison has exactly its redundancy of counted judgments, by as many people."""
    rows = session.execute(FILLED).all()
    assert len(rows) == COMPARISONS
    assert {(row.slots, row.counted, row.annotators) for row in rows} == {(redundancy,) * 3}


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.parametrize("redundancy", [1, 2, 3])
def test_whatever_people_do_each_comparison_ends_with_its_judgments(office: Office, redundancy: int) -> None:
    all_at_once(office, carelessly, seed=redundancy)
    judge_to_the_end(office, redundancy=redundancy)
    with office.sessions.begin() as session:
        assert_exact(session, redundancy=redundancy)
        assert session.scalar(WRONGLY_FLAGGED) == 0
        stored = session.execute(text("SELECT annotator_id, key, id FROM judgments WHERE state = 'given'")).all()
    assert len(stored) == len(office.acknowledged)
    assert {(row.annotator_id, row.key): {row.id} for row in stored} == office.acknowledged
    assert {"skip", "undo", "replay", "surplus", "verdict on expired", "verdict on judged"} <= set(+office.happened)
    assert "undo refused" not in office.happened


LEASED_TO_ALL = text(
    """
    INSERT INTO assignments (id, comparison_id, campaign_id, annotator_id, state, shown_order, leased_at, expires_at)
    SELECT gen_random_uuid(), comparisons.id, comparisons.campaign_id, users.id, 'expired',
           (SELECT array_agg(completion_id ORDER BY position) FROM comparison_completions AS members
            WHERE members.comparison_id = comparisons.id), :now, :now
    FROM comparisons CROSS JOIN users
    """
)
ALL_LEASED = text(
    """
    UPDATE slots SET assignment_id = (SELECT id FROM assignments WHERE assignments.comparison_id = slots.comparison_id
                                      ORDER BY annotator_id OFFSET slots.number LIMIT 1)
    """
)


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.parametrize("redundancy", [3])
def test_a_crowd_of_late_verdicts_on_one_comparison_fills_its_slots_and_never_locks_up(office: Office) -> None:
    with office.sessions.begin() as session:
        session.execute(LEASED_TO_ALL, {"now": NOW})
        session.execute(ALL_LEASED)
        rows = session.execute(text("SELECT comparison_id, annotator_id, id FROM assignments ORDER BY 1, 2")).all()
    at_once = threading.Barrier(PEOPLE)

    def judge_all(annotator_id: int) -> None:
        person = Person(office, annotator_id, random.Random(annotator_id))
        for row in rows[: CROWDED * PEOPLE]:
            if row.annotator_id == annotator_id:
                at_once.wait(timeout=10)
                with office.sessions.begin() as session:
                    held = person.hold(session, row.id)
                    recorded = record_judgment(session, assignment=held, verdict=LEFT, key=uuid.uuid4(), now=NOW)
                person.note(held, recorded)

    with ThreadPoolExecutor(PEOPLE) as pool:
        list(pool.map(judge_all, office.people))
    assert office.happened == {"verdict on expired": CROWDED * PEOPLE, "surplus": CROWDED * (PEOPLE - 3)}


@pytest.mark.race
@pytest.mark.parametrize("redundancy", [1])
def test_turning_over_leaves_a_comparison_on_which_a_verdict_is_under_way_and_waits_for_none(office: Office) -> None:
    with office.sessions.begin() as session:
        line = session.get_one(Campaign, office.campaign_id).line
        assert line is not None
        deploy(session, make_version(session, line))
    with office.sessions.begin() as verdict, office.sessions.begin() as session:
        verdict.execute(text("SELECT FROM comparisons WHERE id = 7 FOR NO KEY UPDATE"))
        session.execute(text("SET LOCAL lock_timeout = '2s'"))
        assert turn_over(session, line_id=line.id, now=NOW) == COMPARISONS - 1
