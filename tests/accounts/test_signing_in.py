"""Signing in and out: who gets in, who hears what, and what a browser holds afterwards."""

import time
from statistics import median

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.models import Role, SignIn, SignInAttempt, User
from app.accounts.service.passwords import hash_password
from app.accounts.service.people import deactivate_user, reactivate_user
from app.accounts.views.signing_in import NO_MATCH
from tests.accounts.pages import PASSWORD, home, send_form, sign_in
from tests.conftest import SignedIn, StoppedClock
from tests.factories.accounts import make_user

HASH = hash_password(PASSWORD)


@pytest.fixture
def ada(session: Session) -> User:
    """An annotator with a password."""
    user = make_user(session, name="Ada", email="Ada@example.org", password_hash=HASH)
    session.commit()
    return user


def test_the_right_password_signs_in_and_leads_home(visitor: TestClient, ada: User) -> None:
    answer = sign_in(visitor, "ada@EXAMPLE.org ")
    assert (answer.status_code, answer.headers["location"]) == (303, home(visitor))
    assert "Ada" in visitor.get("/account").text


def test_the_cookie_is_kept_from_scripts_and_other_sites(visitor: TestClient, ada: User) -> None:
    cookie = sign_in(visitor, ada.email).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_the_database_holds_no_token_that_a_cookie_could_be_made_of(
    visitor: TestClient, session: Session, ada: User
) -> None:
    sign_in(visitor, ada.email)
    assert session.scalars(select(SignIn.token_sha256)).one() != visitor.cookies[SESSION_COOKIE]


@pytest.mark.parametrize(("email", "password"), [("ada@example.org", "wrong"), ("nobody@example.org", PASSWORD)])
def test_an_unknown_email_and_a_wrong_password_are_told_alike(
    visitor: TestClient, session: Session, ada: User, email: str, password: str
) -> None:
    answer = sign_in(visitor, email, password)
    assert answer.status_code == 422
    assert NO_MATCH in answer.text
    assert SESSION_COOKIE not in visitor.cookies
    assert email in answer.text, "what was typed stays"
    assert password not in answer.text
    assert session.scalar(select(func.count()).select_from(SignInAttempt)) == 2, "email and address"


def test_an_unknown_email_takes_as_long_as_a_wrong_password(visitor: TestClient, ada: User) -> None:
    def seconds(email: str) -> float:
        started = time.process_time()
        sign_in(visitor, email, "not the password")
        return time.process_time() - started

    seconds("first@example.org")
    known = median(seconds(ada.email) for _ in range(3))
    unknown = median(seconds(f"stranger{number}@example.org") for number in range(3))
    assert 0.5 < known / unknown < 2


@pytest.mark.parametrize("fields", [{"email": ""}, {"password": ""}, {"email": "a" * 400}, {"email": "a\0b@c"}])
def test_a_form_that_says_too_little_or_too_much_comes_back(
    visitor: TestClient, ada: User, fields: dict[str, str]
) -> None:
    answer = send_form(visitor, "/sign-in", **{"email": ada.email, "password": PASSWORD, **fields})
    assert answer.status_code == 422


def test_a_deactivated_person_is_told_no_more_than_a_stranger(
    visitor: TestClient, session: Session, ada: User, clock: StoppedClock
) -> None:
    deactivate_user(session, user=ada, by_id=None, now=clock())
    session.commit()
    assert NO_MATCH in sign_in(visitor, ada.email).text


def test_a_person_deactivated_while_signed_in_is_out_at_once_and_stays_out(
    session: Session, signed_in: SignedIn, ada: User, clock: StoppedClock
) -> None:
    browser = signed_in(ada)
    assert browser.get("/account").status_code == 200
    deactivate_user(session, user=ada, by_id=None, now=clock())
    session.commit()
    assert browser.get("/account").headers["location"] == "/sign-in?next=%2Faccount"
    reactivate_user(session, user=ada, by_id=None, now=clock())
    session.commit()
    assert browser.get("/account").status_code == 303, "the old cookie does not come back to life"


def test_every_sign_in_gives_a_token_of_its_own(app: FastAPI, ada: User) -> None:
    def token() -> str:
        return sign_in(TestClient(app, base_url="http://localhost", follow_redirects=False), ada.email).cookies[
            SESSION_COOKIE
        ]

    assert token() != token()


def test_a_token_planted_before_signing_in_is_worth_nothing_after(visitor: TestClient, ada: User) -> None:
    visitor.cookies.set(SESSION_COOKIE, "planted")
    assert sign_in(visitor, ada.email).cookies[SESSION_COOKIE] != "planted"
    stranger = TestClient(visitor.app, base_url="http://localhost", follow_redirects=False)
    stranger.cookies.set(SESSION_COOKIE, "planted")
    assert stranger.get("/account").status_code == 303


def test_signing_in_over_somebody_elses_session_ends_that(session: Session, signed_in: SignedIn, ada: User) -> None:
    browser = signed_in(make_user(session, name="Eve"))
    planted = browser.cookies[SESSION_COOKIE]
    answer = browser.post("/sign-in", data={"email": ada.email, "password": PASSWORD})
    assert answer.status_code == 303
    assert answer.cookies[SESSION_COOKIE] != planted
    assert session.scalars(select(SignIn.user_id)).all() == [ada.id]


def test_signing_out_ends_this_browser_only(session: Session, signed_in: SignedIn, ada: User) -> None:
    here, there = signed_in(ada), signed_in(ada)
    answer = here.post("/sign-out")
    assert answer.headers["location"] == "/sign-in?said=signed-out"
    assert f'{SESSION_COOKIE}=""' in answer.headers["set-cookie"]
    assert "You are signed out." in here.get("/sign-in?said=signed-out").text
    assert here.get("/account").status_code == 303, "a copy of the cookie is worth nothing"
    assert there.get("/account").status_code == 200


def test_a_sign_in_ends_after_a_month_unused_and_lives_on_with_use(
    signed_in: SignedIn, ada: User, clock: StoppedClock
) -> None:
    used, unused = signed_in(ada), signed_in(ada)
    clock.forward(days=20)
    assert used.get("/account").status_code == 200
    clock.forward(days=20)
    assert used.get("/account").status_code == 200
    assert unused.get("/account").status_code == 303


def test_a_sign_in_without_our_pages_token_is_refused(visitor: TestClient, ada: User) -> None:
    fields = {"email": ada.email, "password": PASSWORD}
    assert visitor.post("/sign-in", data=fields).status_code == 403
    visitor.get("/sign-in")
    assert visitor.post("/sign-in", data=fields).status_code == 403
    assert visitor.post("/sign-in", data={**fields, "csrf_token": "é"}).status_code == 403


def test_a_form_sent_after_the_sign_in_ended_leads_to_signing_in(
    session: Session, signed_in: SignedIn, ada: User, clock: StoppedClock
) -> None:
    browser = signed_in(ada)
    clock.forward(days=40)
    plain = browser.post("/account/name", data={"name": "Eve"})
    assert (plain.status_code, plain.headers["location"]) == (303, "/sign-in")
    asked = {"HX-Request": "true", "HX-Current-URL": "http://localhost/account?said=x"}
    htmx = browser.post("/account/name", data={"name": "Eve"}, headers=asked)
    assert (htmx.status_code, htmx.headers["hx-redirect"]) == (401, "/sign-in?next=%2Faccount%3Fsaid%3Dx")
    session.refresh(ada)
    assert ada.name == "Ada"


def test_an_older_hash_is_renewed_by_a_sign_in(visitor: TestClient, session: Session) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    user = make_user(session, password_hash=weak)
    session.commit()
    sign_in(visitor, user.email)
    session.refresh(user)
    assert user.password_hash != weak
    assert sign_in(TestClient(visitor.app, follow_redirects=False), user.email).status_code == 303


def test_a_fresh_installation_says_how_to_let_the_first_person_in(visitor: TestClient, session: Session) -> None:
    assert "palate user admin-link" in visitor.get("/sign-in").text
    make_user(session, Role.ADMIN)
    session.commit()
    assert "palate user admin-link" not in visitor.get("/sign-in").text


def test_there_is_no_way_to_sign_up(visitor: TestClient) -> None:
    for path in ("/sign-up", "/register", "/links/", "/links/anything"):
        assert visitor.get(path).status_code == 404
