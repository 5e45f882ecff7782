"""What is announced reaches whoever follows it, and nobody else, for as long as they may see it."""

import signal
import time
from dataclasses import dataclass

import psutil
import pytest
from sqlalchemy import text

from app.accounts.models import Role
from app.accounts.service.people import deactivate_user, set_role
from app.accounts.service.sign_ins import end_sign_in
from app.campaigns.models import Access, Campaign
from app.campaigns.service.people import change_enrolment, remove_enrolment
from app.clock import utc_now
from app.live.announcing import announce
from app.live.hub import MOST_READERS
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.training import make_run
from tests.live.following import Web

READERS, PEOPLE = 200, 10
IN_TIME = 1.0
"""Seconds within which a committed change reaches a page."""


@dataclass(frozen=True)
class Scene:
    """A run on a line with one campaign, and a manager's sign-in."""

    run_id: int
    line_id: int
    campaign_id: int
    manager_id: int
    token: str

    @property
    def of_run(self) -> str:
        return f"/runs/{self.run_id}/events"


@pytest.fixture
def scene(web: Web) -> Scene:
    with web.sessions() as session:
        campaign = make_campaign(session)
        assert campaign.line is not None
        manager = make_user(session, Role.MANAGER)
        enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
        run = make_run(session, campaign.line)
        token = web.sign_in(session, manager)
        session.commit()
        return Scene(run.id, campaign.line.id, campaign.id, manager.id, token)


def tell(web: Web, kind: str, subject_id: int) -> None:
    with web.sessions.begin() as session:
        announce(session, kind, subject_id)  # type: ignore[arg-type]


def test_a_page_hears_within_a_second_of_a_commit_and_nothing_of_what_was_rolled_back(web: Web, scene: Scene) -> None:
    page = web.follow(scene.of_run, scene.token)
    assert page.status == 200
    assert "content-type: text/event-stream" in page.head
    assert "x-accel-buffering: no" in page.head
    assert "content-encoding" not in page.head
    assert set(page.events(2)) == {f"run-{scene.run_id}", f"line-{scene.line_id}"}, "it looks at all once"
    session = web.sessions()
    announce(session, "run", scene.run_id)
    assert page.next_event(within_seconds=0.5) is None, "not before the commit"
    session.rollback()
    assert page.next_event(within_seconds=0.5) is None
    tell(web, "run", scene.run_id + 1)
    committed = time.monotonic()
    tell(web, "run", scene.run_id)
    assert page.next_event(within_seconds=5) == f"run-{scene.run_id}", "the run next to it is none of its business"
    assert time.monotonic() - committed < IN_TIME
    page.close()


def test_two_hundred_pages_cost_neither_threads_nor_connections(web: Web, scene: Scene) -> None:
    with web.sessions.begin() as session:
        admins = [make_user(session, Role.ADMIN) for _ in range(PEOPLE)]
        tokens = [web.sign_in(session, admin) for admin in admins]
    first = [web.follow(scene.of_run, token) for token in tokens]
    before = (web.in_memory.num_threads(), connections(web))
    pages = first + [web.follow(scene.of_run, tokens[number % PEOPLE]) for number in range(READERS - PEOPLE)]
    assert {page.status for page in pages} == {200}
    assert (web.in_memory.num_threads(), connections(web)) == before
    for page in pages:
        assert len(set(page.events(2))) == 2
    committed = time.monotonic()
    tell(web, "run", scene.run_id)
    assert {page.next_event(within_seconds=5) for page in pages} == {f"run-{scene.run_id}"}
    assert time.monotonic() - committed < IN_TIME
    for page in pages:
        page.close()


def connections(web: Web) -> int:
    """Connections to the web's database but for the one that asks."""
    with web.sessions.begin() as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        return int(session.scalar(text(query)) or 0)


def test_a_page_that_does_not_listen_piles_nothing_up_and_is_told_once(web: Web, scene: Scene) -> None:
    page = web.follow(scene.of_run, scene.token)
    assert len(page.events(2)) == 2
    stopped = psutil.Process(web.process.pid)
    stopped.suspend()  # all of it reaches the web process at once, before any of it can be sent
    for _ in range(500):
        tell(web, "run", scene.run_id)
    stopped.resume()
    heard = 0
    while page.next_event(within_seconds=1) is not None:
        heard += 1
    assert 1 <= heard < 50, "500 changes, told as few"
    page.close()


@pytest.mark.parametrize(
    "path", ["/runs/{0.run_id}/events", "/models/{0.line_id}/events", "/campaigns/{0.campaign_id}/events"]
)
def test_who_may_not_see_a_thing_may_not_follow_it(web: Web, scene: Scene, path: str) -> None:
    with web.sessions.begin() as session:
        stranger = web.sign_in(session, make_user(session, Role.MANAGER))
        judge = make_user(session)
        enrol(session, judge, session.get_one(Campaign, scene.campaign_id))
        annotator = web.sign_in(session, judge)
    assert web.follow(path.format(scene), scene.token).status == 200
    assert web.follow(path.format(scene), stranger).status == 404
    assert web.follow(path.format(scene), annotator).status in {403, 404}
    assert web.follow(path.format(scene)).status == 303, "to signing in"


def test_all_lines_that_one_may_see_can_be_followed_at_once(web: Web, scene: Scene) -> None:
    with web.sessions.begin() as session:
        other = make_campaign(session).line_id
        admin = web.sign_in(session, make_user(session, Role.ADMIN))
    assert set(web.follow("/models/events", admin).events(2)) == {f"line-{scene.line_id}", f"line-{other}"}
    page = web.follow("/models/events", scene.token)
    assert page.next_event(within_seconds=5) == f"line-{scene.line_id}"
    assert other is not None
    tell(web, "line", other)
    assert page.next_event(within_seconds=1) is None


def test_signing_out_and_losing_rights_ends_what_is_open(web: Web, scene: Scene) -> None:
    def demote() -> None:
        set_role(session, user=manager, role=Role.ANNOTATOR, by_id=None, now=utc_now())

    def restrict() -> None:
        change_enrolment(
            session, campaign=campaign, user_id=manager.id, judges=True, access=Access.NONE, by_id=None, now=utc_now()
        )

    def remove() -> None:
        remove_enrolment(session, campaign=campaign, user_id=manager.id, by_id=None, now=utc_now())

    def deactivate() -> None:
        deactivate_user(session, user=manager, by_id=None, now=utc_now())

    def sign_out() -> None:
        end_sign_in(session, token=token)

    for revoke in (sign_out, deactivate, remove, restrict, demote):
        with web.sessions.begin() as session:
            manager = make_user(session, Role.MANAGER)
            campaign = session.get_one(Campaign, scene.campaign_id)
            enrol(session, manager, campaign, access=Access.MANAGE)
            token = web.sign_in(session, manager)
        page, other = web.follow(scene.of_run, token), web.follow(scene.of_run, scene.token)
        with web.sessions.begin() as session:
            manager, campaign = session.merge(manager), session.merge(campaign)
            revoke()
        assert page.ends(within_seconds=IN_TIME), revoke.__name__
        assert not other.ends(within_seconds=0.1), "somebody else's stays"
        assert web.follow(scene.of_run, token).status in {303, 403, 404}, revoke.__name__


def test_nobody_opens_pages_without_end(web: Web, scene: Scene) -> None:
    pages = [web.follow(scene.of_run, scene.token) for _ in range(MOST_READERS)]
    assert web.follow(scene.of_run, scene.token).status == 429
    pages.pop().close()
    time.sleep(0.3)
    assert web.follow(scene.of_run, scene.token).status == 200


def test_a_connection_that_is_cut_is_made_anew_and_all_is_looked_at_again(web: Web, scene: Scene) -> None:
    page = web.follow(scene.of_run, scene.token)
    assert len(page.events(2)) == 2
    with web.sessions.begin() as session:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        assert session.scalars(text(f"{cut} AND datname = current_database()")).all() == [True]
        announce(session, "run", scene.run_id)  # while nobody listens
    assert set(page.events(2)) == {f"run-{scene.run_id}", f"line-{scene.line_id}"}
    tell(web, "run", scene.run_id)
    assert page.next_event(within_seconds=5) == f"run-{scene.run_id}"


def test_stopping_the_web_process_does_not_wait_for_open_pages(web: Web, scene: Scene) -> None:
    page = web.follow(scene.of_run, scene.token)
    assert len(page.events(2)) == 2
    begun = time.monotonic()
    web.process.send_signal(signal.SIGTERM)
    assert page.ends(within_seconds=3)
    web.process.wait(10)
    assert time.monotonic() - begun < 3, "five seconds are granted to answers under way"
