"""Every route is walked as every role and as nobody, against the role table of `walking.ALLOWED`."""

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Connection
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.access import CSRF_HEADER, Needs, declares
from app.settings import Settings
from tests.accounts.pages import token_in
from tests.conftest import SignedIn
from tests.kernel.walking import ALLOWED, Member, Step, World, build_world, steps

OWN_ANSWERS = {"accounts:start_sign_in", "accounts:sign_in"}
"""Routes whose business is to send people to signing in or away from it."""


@pytest.fixture
def world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """A campaign, all that hangs on it, and people who may and may not touch it."""
    return build_world(session, session_factory, settings)


def test_every_route_declares_one_need(app: FastAPI) -> None:
    undeclared = [str(step) for step in steps(app) if not step.needs]
    assert not undeclared, "give each a dependency marked by `declares`; `Depends(anyone)` where all may"
    doubtful = [str(step) for step in steps(app) if len(step.needs - {Needs.SIGNED_IN}) > 1]
    assert not doubtful, "two needs on one route: which one holds?"
    assert set(ALLOWED) == set(Needs), "say in ALLOWED who satisfies each need"


def test_every_parameter_of_an_address_stands_for_something(app: FastAPI) -> None:
    unknown = [f"{step}: {step.unknown}" for step in steps(app) if step.unknown]
    assert not unknown, "add a line to PARAMETERS in tests/kernel/walking.py for each"


def test_no_two_routes_share_a_name_or_an_address(app: FastAPI) -> None:
    walked = steps(app)
    assert len({step.name for step in walked}) == len(walked)
    assert len({(step.method, step.path) for step in walked}) == len(walked)


@pytest.mark.parametrize("member", list(Member))
def test_every_route_is_open_to_whom_it_should_be_and_to_nobody_else(
    app: FastAPI, world: World, connection: Connection, signed_in: SignedIn, visitor: TestClient, *, member: Member
) -> None:
    browser = visitor_with_token(visitor) if member is Member.NOBODY else signed_in(world.people[member])
    cookies = dict(browser.cookies)
    wrong = []
    for step in steps(app):
        if problem := complaint(step, member, tried(browser, step, step.address(world, member), connection)):
            wrong.append(f"{step} by {member}, needs {step.need!r}: {problem}")
        browser.cookies.clear()
        browser.cookies.update(cookies)
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_unsafe_route_takes_a_request_that_did_not_come_from_our_page(
    app: FastAPI, world: World, connection: Connection, signed_in: SignedIn, visitor: TestClient
) -> None:
    insider = signed_in(world.people[Member.ADMIN_ENROLLED])
    right = insider.headers.pop(CSRF_HEADER)
    unsafe = [step for step in steps(app) if not step.is_safe]
    for step in unsafe:
        address = step.address(world, Member.ADMIN_ENROLLED)
        for browser in (visitor, insider):
            for headers in ({}, {CSRF_HEADER: ""}, {CSRF_HEADER: right[::-1]}):
                assert browser.request(step.method, address, headers=headers).status_code == 403, str(step)
        assert insider.request(step.method, address, params={"csrf_token": right}).status_code == 403, str(step)
    assert unsafe


def test_the_walk_finds_a_route_that_declares_nothing(app: FastAPI) -> None:
    app.add_api_route("/forgotten", lambda: None, name="forgotten")
    assert [step.name for step in steps(app) if not step.needs] == ["forgotten"]


def test_the_walk_finds_a_route_that_lets_in_more_than_it_declares(
    app: FastAPI, world: World, connection: Connection, signed_in: SignedIn, visitor: TestClient
) -> None:
    @declares(Needs.ADMIN)
    def careless() -> None:
        pass

    app.add_api_route("/careless", lambda: None, name="careless", dependencies=[Depends(careless)])
    (step,) = (step for step in steps(app) if step.name == "careless")
    annotator = signed_in(world.people[Member.ANNOTATOR])
    assert complaint(step, Member.ANNOTATOR, tried(annotator, step, step.path, connection))
    assert complaint(step, Member.NOBODY, tried(visitor, step, step.path, connection))
    assert not complaint(step, Member.ADMIN, tried(annotator, step, step.path, connection))


def tried(browser: TestClient, step: Step, address: str, connection: Connection) -> Response | Exception:
    """The answer to a request, or what broke; its effects are undone, so that each finds the same world."""
    undone = connection.begin_nested()
    try:
        return browser.request(step.method, address)
    except Exception as error:
        return error
    finally:
        undone.rollback()


def complaint(step: Step, member: Member, answer: Response | Exception) -> str | None:
    """What is wrong with an answer, or None."""
    if isinstance(answer, Exception):
        return f"broke: {answer!r}"
    status, location = answer.status_code, answer.headers.get("location", "")
    sent_to_sign_in = status == 401 or (status == 303 and location.startswith("/sign-in"))
    if member in ALLOWED[step.need]:
        if step.name in OWN_ANSWERS | {"accounts:sign_out"}:
            return f"broke with {status}" if status >= 500 else None
        if sent_to_sign_in or status in {403, 404} or (status >= 500 and status != 503):
            return f"may do this, and was answered {status} {location}"
        return None
    if member is Member.NOBODY and step.need is not Needs.TOKEN:
        return None if sent_to_sign_in else f"is not signed in, and was answered {status} {location}"
    return None if status in {403, 404} else f"may not do this, and was answered {status} {location}"


def visitor_with_token(visitor: TestClient) -> TestClient:
    """A browser in which nobody is signed in, and which sends the token that our pages gave it."""
    visitor.headers[CSRF_HEADER] = token_in(visitor.get("/sign-in"))
    return visitor
