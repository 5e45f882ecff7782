"""Requests that other sites, proxies and copies of cookies make for somebody: none is taken for theirs."""

import threading
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import HttpUrl
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.access import CSRF_HEADER, SESSION_COOKIE, VISITOR_COOKIE, csrf_token
from app.accounts.models import Link, Role, SignInAttempt, User
from app.accounts.service.links import create_invitation, create_password_reset
from app.accounts.service.passwords import hash_password
from app.accounts.service.sign_ins import start_sign_in
from app.accounts.service.throttling import FREE_PER_EMAIL
from app.database import make_engine, make_session_factory
from app.main import create_app
from app.settings import Settings
from tests.accounts.pages import PASSWORD, send_form, sign_in, token_in
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.kernel.walking import Member, Step, World, build_world, steps
from tests.security.serving import served

HASH = hash_password(PASSWORD)
BOTS = ["Slackbot-LinkExpanding 1.0", "facebookexternalhit/1.1", "WhatsApp/2.2", "Microsoft Office SafeLinks"]


@pytest.fixture
def world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """A campaign, all that hangs on it, and the people."""
    return build_world(session, session_factory, settings)


@pytest.fixture
def ada(session: Session) -> User:
    """Somebody with a password."""
    user = make_user(session, Role.ADMIN, email="ada@example.org", password_hash=HASH)
    session.commit()
    return user


def unsafe(app: FastAPI) -> list[Step]:
    return [step for step in steps(app) if not step.is_safe]


@pytest.mark.parametrize(
    "kind", ["another person's", "a visitor's", "from before signing in anew", "cut", "of nothing"]
)
def test_no_unsafe_route_takes_a_token_that_is_not_of_this_very_sign_in(
    app: FastAPI, world: World, connection: Connection, signed_in: SignedIn, settings: Settings,
    session: Session, kind: str,
) -> None:  # fmt: skip
    browser, other = signed_in(world.people[Member.ADMIN_ENROLLED]), signed_in(world.people[Member.MANAGER])
    again = start_sign_in(session, user=world.people[Member.ADMIN_ENROLLED], user_agent="", lasts=LASTS, now=NOW)
    forged = {
        "another person's": other.headers[CSRF_HEADER],
        "a visitor's": csrf_token(settings, "planted"),
        "from before signing in anew": csrf_token(settings, again),
        "cut": browser.headers[CSRF_HEADER][:-1],
        "of nothing": csrf_token(settings, ""),
    }[kind]
    browser.cookies.set(VISITOR_COOKIE, "planted")
    for step in unsafe(app):
        address = step.address(world, Member.ADMIN_ENROLLED)
        for given in ({"headers": {CSRF_HEADER: forged}}, {"data": {"csrf_token": forged}}):
            del browser.headers[CSRF_HEADER]
            answer = browser.request(step.method, address, **given)
            browser.headers[CSRF_HEADER] = "unused"
            assert answer.status_code == 403, f"{step} with {kind} token: {answer.status_code}"


LASTS = timedelta(days=30)


def test_a_form_on_another_site_reaches_nothing_even_with_the_cookie(
    app: FastAPI, world: World, connection: Connection, signed_in: SignedIn
) -> None:
    browser = signed_in(world.people[Member.ADMIN_ENROLLED])
    del browser.headers[CSRF_HEADER]
    foreign = {"Origin": "https://evil.example", "Referer": "https://evil.example/", "Sec-Fetch-Site": "cross-site"}
    for step in unsafe(app):
        for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain"):
            headers = {**foreign, "Content-Type": kind}
            answer = browser.request(
                step.method, step.address(world, Member.ADMIN_ENROLLED), headers=headers, content=b"a=b"
            )
            assert answer.status_code in {400, 403}, f"{step} as {kind}: {answer.status_code}"


def test_no_answer_lets_another_site_read_it(app: FastAPI, world: World, signed_in: SignedIn) -> None:
    browser = signed_in(world.people[Member.ADMIN_ENROLLED])
    for step in steps(app):
        if step.method == "GET":
            headers = {"Origin": "https://evil.example"}
            answer = browser.get(step.address(world, Member.ADMIN_ENROLLED), headers=headers)
            assert "access-control-allow-origin" not in answer.headers, step
            assert answer.headers["cross-origin-resource-policy"] == "same-origin", step
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], step


def test_the_cookie_changes_at_every_sign_in_and_a_planted_one_is_worth_nothing(
    app: FastAPI, visitor: TestClient, ada: User
) -> None:
    visitor.cookies.set(SESSION_COOKIE, "planted-by-eve")
    assert sign_in(visitor, ada.email).status_code == 303
    first = visitor.cookies.get(SESSION_COOKIE, domain="localhost.local")
    eve = TestClient(app, base_url="http://localhost", follow_redirects=False)
    eve.cookies.set(SESSION_COOKIE, "planted-by-eve")
    assert eve.get("/people").headers["location"].startswith("/sign-in")
    assert first != "planted-by-eve"


@pytest.mark.parametrize("purpose", ["invitation", "reset"])
def test_programs_that_look_at_links_use_none_up(
    visitor: TestClient, session: Session, ada: User, purpose: str
) -> None:
    if purpose == "invitation":
        made = create_invitation(session, role=Role.ANNOTATOR, email=None, created_by_id=ada.id, now=NOW)
    else:
        made = create_password_reset(session, user=ada, created_by_id=None, now=NOW)
    session.commit()
    for bot in BOTS:
        for method in ("GET", "HEAD", "OPTIONS"):
            answer = visitor.request(method, made.path, headers={"User-Agent": bot, "Sec-Purpose": "prefetch"})
            assert answer.status_code in {200, 405}, (bot, method)
        assert visitor.post(made.path, headers={"User-Agent": bot}).status_code == 403, "without our page's token"
    assert session.scalars(select(Link.consumed_at)).all() == [None]
    assert not visitor.cookies.get(SESSION_COOKIE)
    given = {"password": PASSWORD, **({} if purpose == "reset" else {"name": "New", "email": "new@example.org"})}
    assert send_form(visitor, made.path, **given).status_code == 303


def test_a_host_header_of_somebody_else_gets_into_no_link(
    session_factory: sessionmaker[Session], settings: Settings, signed_in: SignedIn, ada: User
) -> None:
    reached_at = settings.model_copy(update={"base_url": HttpUrl("https://palate.example")})
    app = create_app(reached_at, session_factory=session_factory, clock=lambda: NOW)
    ours = signed_in(ada)
    browser = TestClient(app, base_url="https://palate.example", follow_redirects=False, cookies=ours.cookies)
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", CSRF_HEADER: ours.headers[CSRF_HEADER]}
    made = browser.post("/people/invitations", headers=headers, data={"role": "annotator"})
    assert made.status_code == 201
    assert "https://palate.example/links/" in made.text
    for answer in (made, *(browser.get(path, headers=headers) for path in ("/", "/people", "/sign-in", "/nowhere"))):
        assert "evil.example" not in answer.text
        assert "evil.example" not in answer.headers.get("location", "")


@pytest.mark.race
@pytest.mark.slow
def test_guesses_spread_over_two_web_processes_are_counted_together(fresh_database: str, settings: Settings) -> None:
    engines = [make_engine(fresh_database) for _ in range(2)]
    apps = [create_app(settings, session_factory=make_session_factory(each), clock=lambda: NOW) for each in engines]
    with make_session_factory(engines[0]).begin() as session:
        make_user(session, email="ada@example.org", password_hash=HASH)
    answers: list[int] = []
    with served(apps[0]) as one, served(apps[1]) as two:

        def guess(address: str) -> None:
            with httpx.Client(base_url=address) as browser:
                page = browser.get("/sign-in")
                token = token_in(page)
                for _ in range(1000):  # most are refused because another is under way; the clock stands still
                    fields = {"csrf_token": token, "email": "ada@example.org", "password": "a wrong guess"}
                    answer = browser.post("/sign-in", data=fields)
                    answers.append(answer.status_code)
                    if "Too many attempts did not work" in answer.text:
                        return

        threads = [threading.Thread(target=guess, args=(address,)) for address in (one, two, one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(answers) == {422, 429}
    with make_session_factory(engines[1])() as session:
        tried_at = session.scalars(select(SignInAttempt).where(SignInAttempt.subject.startswith("email:"))).all()
    assert len(tried_at) == answers.count(422) == FREE_PER_EMAIL
    for engine in engines:
        engine.dispose()
