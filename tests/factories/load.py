"""People who judge all the while something else happens, each in a thread and in transactions of their own."""

import threading
import time
from dataclasses import dataclass, field

from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import Desk, make_desk


@dataclass
class Judging:
    """Used as `with Judging(...):`; what they were told is read meanwhile or afterwards."""

    sessions: sessionmaker[Session]
    desks: list[tuple[int, int]]
    """Campaign and person."""
    acknowledged: list[int] = field(default_factory=list)
    """Judgments whose transaction was committed, by id."""
    slowest_seconds: float = 0.0
    failures: list[Exception] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def in_campaign(
        cls, sessions: sessionmaker[Session], campaign_id: int, *, people: int = 4, comparisons: int = 400
    ) -> "Judging":
        """New people in a campaign, with enough to judge."""
        with sessions.begin() as session:
            campaign = session.get_one(Campaign, campaign_id)
            for _ in range(comparisons):
                make_comparison(session, campaign)
            desks = [make_desk(session, campaign) for _ in range(people)]
        return cls(sessions, [(desk.campaign_id, desk.annotator_id) for desk in desks])

    def __enter__(self) -> "Judging":
        """Have everybody begin."""
        self._threads = [threading.Thread(target=self._judge, args=desk) for desk in self.desks]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Have everybody finish what they are at."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, judgments: int, *, seconds: float = 60) -> None:
        """Until so many more are acknowledged."""
        wanted, deadline = len(self.acknowledged) + judgments, time.monotonic() + seconds
        while len(self.acknowledged) < wanted and not self.failures:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} judgments"
            time.sleep(0.01)

    def _judge(self, campaign_id: int, annotator_id: int) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                judgment_id = self._one(campaign_id, annotator_id)
            except Exception as error:
                self.failures.append(error)
                return
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
            if judgment_id is None:
                return
            self.acknowledged.append(judgment_id)

    def _one(self, campaign_id: int, annotator_id: int) -> int | None:
        with self.sessions.begin() as session:
            lease = Desk(session, campaign_id, annotator_id).lease()
        if lease is None:
            return None
        with self.sessions.begin() as session:
            return Desk(session, campaign_id, annotator_id).judge(lease).judgment_id
