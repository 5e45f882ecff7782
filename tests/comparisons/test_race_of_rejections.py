"""Managers set judgments aside, twice at once and many, while people judge: each comparison still ends exact."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.orm import sessionmaker

from app.comparisons.service.rejecting import Grounds, lift_rejection, reject_judgments
from app.database import make_engine
from app.errors import Conflict
from tests.comparisons.test_race import (
    Office,
    all_at_once,
    assert_exact,
    carelessly,
    judge_to_the_end,
    office,
)
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import make_desk
from tests.faults.soundness import NEVER

__all__ = ["office"]

LATEST = text("SELECT id FROM judgments WHERE state = 'given' ORDER BY id DESC LIMIT 60")
SET_ASIDE = text("SELECT DISTINCT judgment_id FROM rejections ORDER BY judgment_id")
MOST_REJECTIONS = 12
"""Of one comparison: were it never to stop, nobody would be left who may judge it."""
OFTEN = text(
    """
    SELECT judgments.comparison_id FROM rejections JOIN judgments ON judgments.id = rejections.judgment_id
    GROUP BY judgments.comparison_id HAVING count(*) > :most
    """
)
WRONGLY_FLAGGED = text(
    """
    SELECT count(*) FROM judgments JOIN assignments ON assignments.id = judgments.assignment_id
    WHERE judgments.state = 'given' AND assignments.state = 'judged'
      AND judgments.revision = (SELECT max(revision) FROM judgments AS own WHERE own.assignment_id = assignments.id)
      AND (judgments.surplus OR coalesce((SELECT rejections.state = 'rejected' FROM rejections
                                          WHERE rejections.judgment_id = judgments.id
                                          ORDER BY number DESC LIMIT 1), false))
          = EXISTS (SELECT FROM slots WHERE slots.judgment_id = judgments.id)
    """
)


def set_aside_at_random(office: Office, over: threading.Event, happened: Counter[str], seed: str) -> None:
    """Reject some of the latest judgments, or take rejections back, until told to stop."""
    rng = random.Random(seed)
    while not over.wait(0.005):
        with office.sessions.begin() as session:
            often = set(session.scalars(OFTEN, {"most": MOST_REJECTIONS}))
            latest = [
                row.id
                for row in session.execute(
                    text("SELECT id, comparison_id FROM judgments WHERE id = ANY(:ids)"),
                    {"ids": list(session.scalars(LATEST))},
                )
                if row.comparison_id not in often
            ]
        if not latest:
            continue
        chosen = rng.sample(latest, min(len(latest), rng.choice([1, 1, 5, 20])))
        try:
            with office.sessions.begin() as session:
                if rng.random() < 0.3 and (earlier := list(session.scalars(SET_ASIDE))):
                    lift_rejection(
                        session, judgment_id=rng.choice([earlier[0], earlier[-1]]), by_id=None, now=office.clock()
                    )
                    happened["lifted"] += 1
                else:
                    grounds = Grounds("At random.", serves_again=rng.random() < 0.5)
                    done = reject_judgments(session, chosen, grounds=grounds, by_id=None, now=office.clock())
                    happened["rejected"] += len(done)
                    happened["passed over"] += len(chosen) - len(done)
        except Conflict:
            happened["stayed out"] += 1


@contextmanager
def managers_at_work(office: Office, happened: Counter[str], *, seed: int) -> Iterator[None]:
    """Three managers who set aside what was just judged; raises what any of them raised."""
    over = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        managers = [pool.submit(set_aside_at_random, office, over, happened, f"{seed}-{n}") for n in range(3)]
        try:
            yield
        finally:
            over.set()
        for manager in managers:
            manager.result()


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.parametrize("redundancy", [1, 2])
def test_whatever_is_set_aside_meanwhile_each_comparison_ends_with_its_judgments(
    office: Office, redundancy: int
) -> None:
    happened: Counter[str] = Counter()
    with managers_at_work(office, happened, seed=redundancy):
        all_at_once(office, carelessly, seed=redundancy)
    judge_to_the_end(office, redundancy=redundancy)
    with office.sessions.begin() as session:
        assert_exact(session, redundancy=redundancy)
        assert session.scalar(WRONGLY_FLAGGED) == 0
        amiss = {
            what: list(session.scalars(text(query)))
            for what, query in NEVER.items()
            if "slot" in what or "judg" in what
        }
        assert {what: ids for what, ids in amiss.items() if ids} == {}
        stored = session.execute(text("SELECT annotator_id, key, id FROM judgments WHERE state = 'given'")).all()
    assert {(row.annotator_id, row.key): {row.id} for row in stored} == office.acknowledged
    assert happened["rejected"] > 20
    assert happened["lifted"] + happened["stayed out"] > 0


@pytest.mark.race
def test_rejected_by_many_at_once_a_judgment_is_set_aside_once(fresh_database: str) -> None:
    engine = make_engine(fresh_database, pool_size=20)
    sessions = sessionmaker(engine, expire_on_commit=False)
    with sessions.begin() as session:
        campaign = make_campaign(session, redundancy=3)
        comparison = make_comparison(session, campaign, redundancy=3)
        people = [make_desk(session, campaign) for _ in range(3)]
        ids = [person.judge(person.take()).judgment_id for person in people]
    start = threading.Barrier(12)

    def reject(number: int) -> int:
        start.wait()
        with sessions.begin() as session:
            order = ids if number % 2 else ids[::-1]
            return len(reject_judgments(session, order, grounds=Grounds("Twice."), by_id=None, now=NOW))

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(reject, range(12))) == 3
    with sessions.begin() as session:
        free = text("SELECT count(*) FROM slots WHERE comparison_id = :id AND judgment_id IS NULL")
        assert session.scalar(free, {"id": comparison.id}) == 3
        assert session.scalar(text("SELECT count(*) FROM rejections")) == 3
    engine.dispose()
