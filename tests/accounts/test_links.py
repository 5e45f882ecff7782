"""One-time links: without effect until sent, good once, and dead in every way they should be."""

import threading
from datetime import datetime
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.models import Link, Role, SignIn, User
from app.accounts.service.joining import accept_invitation, become_first_admin
from app.accounts.service.links import (
    FIRST_ADMIN_LASTS,
    INVITATION_LASTS,
    PASSWORD_RESET_LASTS,
    create_first_admin_link,
    create_invitation,
    create_password_reset,
    find_usable_link,
    get_usable_link,
    link_path,
    withdraw_invitation,
)
from app.accounts.service.passwords import hash_password, set_password
from app.accounts.service.people import deactivate_user, set_role
from app.accounts.service.sign_ins import start_sign_in
from app.audit import AuditEntry
from app.campaigns.models import Access, Enrolment, InvitedEnrolment
from app.database import make_engine, make_session_factory
from app.errors import Conflict, DomainError, NotFound
from tests.accounts.pages import PASSWORD, field_error, home, send_form, sign_in
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign

ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "password": PASSWORD}


@pytest.fixture
def first(session: Session) -> str:
    """The path of a link for the first admin."""
    path = link_path(create_first_admin_link(session, now=NOW))
    session.commit()
    return path


@pytest.fixture
def root(session: Session) -> User:
    """An admin."""
    user = make_user(session, Role.ADMIN, name="Root")
    session.commit()
    return user


def invitation(session: Session, by: User, role: Role = Role.ANNOTATOR, email: str | None = None) -> str:
    """The path of an invitation."""
    fresh = create_invitation(session, role=role, email=email, created_by_id=by.id, now=NOW)
    session.commit()
    return fresh.path


def test_the_first_admin_is_made_signed_in_and_sent_home(visitor: TestClient, session: Session, first: str) -> None:
    answer = send_form(visitor, first, **ADA)
    assert (answer.status_code, answer.headers["location"]) == (303, home(visitor))
    user = session.scalars(select(User)).one()
    assert (user.name, user.email, user.role) == ("Ada Lovelace", "ada@example.org", Role.ADMIN)
    assert visitor.get("/people").status_code == 200


def test_opening_a_link_has_no_effect_however_often_it_is_fetched(
    visitor: TestClient, session: Session, first: str
) -> None:
    for _ in range(3):
        assert visitor.get(first).status_code == 200
    assert session.scalars(select(Link.consumed_at)).one() is None
    assert session.scalar(select(func.count()).select_from(User)) == 0
    assert send_form(visitor, first, **ADA).status_code == 303


def test_a_used_link_opens_nothing_and_says_what_to_do(visitor: TestClient, app: FastAPI, first: str) -> None:
    page = visitor.get(first)
    send_form(visitor, first, **ADA)
    other = TestClient(app, base_url="http://localhost", follow_redirects=False)
    assert other.get(first).status_code == 404
    assert "Ask whoever sent it for a new one" in other.get(first).text
    again = send_form(other, "/sign-in", first, **{**ADA, "email": "eve@example.org"})
    assert again.status_code == 404
    assert page.status_code == 200


def test_the_database_holds_no_token(session: Session) -> None:
    token = create_first_admin_link(session, now=NOW)
    assert token not in str(session.execute(select(Link.__table__)).all())
    assert token not in str(session.execute(select(AuditEntry.__table__)).all())


def test_a_page_behind_a_link_tells_nobody_its_address(visitor: TestClient, first: str) -> None:
    for page in (visitor.get(first), send_form(visitor, first, **{**ADA, "password": "short"})):
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("lasts", [FIRST_ADMIN_LASTS, INVITATION_LASTS, PASSWORD_RESET_LASTS])
def test_a_link_runs_out(session: Session, root: User, lasts: Any) -> None:
    fresh = create_invitation(session, role=Role.ANNOTATOR, email=None, created_by_id=root.id, now=NOW, lasts=lasts)
    nearly = NOW + lasts * 0.999
    assert find_usable_link(session, token=fresh.token, now=nearly) is not None
    assert find_usable_link(session, token=fresh.token, now=NOW + lasts) is None


def test_an_expired_link_is_refused_even_if_its_form_was_open(
    visitor: TestClient, session: Session, root: User, clock: StoppedClock
) -> None:
    path = invitation(session, root)
    token = visitor.get(path).text.split('name="csrf_token" value="')[1].split('"')[0]
    clock.forward(days=15)
    assert visitor.post(path, data={**ADA, "csrf_token": token}).status_code == 404
    assert session.scalar(select(func.count()).select_from(User)) == 1


def test_a_new_link_for_the_first_admin_ends_the_earlier(session: Session) -> None:
    earlier, later = (create_first_admin_link(session, now=NOW) for _ in range(2))
    assert find_usable_link(session, token=earlier, now=NOW) is None
    assert find_usable_link(session, token=later, now=NOW) is not None


def test_there_is_no_first_admin_link_once_there_is_an_admin(session: Session) -> None:
    token = create_first_admin_link(session, now=NOW)
    make_user(session, Role.ADMIN)
    assert find_usable_link(session, token=token, now=NOW) is None
    with pytest.raises(Conflict, match="There is an admin already"):
        create_first_admin_link(session, now=NOW)


def test_a_newcomer_gets_the_role_of_the_invitation_and_no_other(
    visitor: TestClient, session: Session, root: User
) -> None:
    path = invitation(session, root, Role.RESEARCHER, email="ada@example.org")
    assert 'value="ada@example.org"' in visitor.get(path).text
    assert send_form(visitor, path, **ADA, role="admin").status_code == 303
    joined = session.scalars(select(User).where(User.email == "ada@example.org")).one()
    assert joined.role is Role.RESEARCHER


def test_a_newcomer_is_enrolled_wherever_the_invitation_said(visitor: TestClient, session: Session, root: User) -> None:
    campaign = make_campaign(session)
    fresh = create_invitation(session, role=Role.RESEARCHER, email=None, created_by_id=root.id, now=NOW)
    session.add(InvitedEnrolment(link_id=fresh.link.id, campaign_id=campaign.id, judges=True, access=Access.RESEARCH))
    session.commit()
    assert send_form(visitor, fresh.path, **ADA).status_code == 303
    enrolment = session.scalars(select(Enrolment)).one()
    assert (enrolment.user.name, enrolment.judges, enrolment.access) == ("Ada Lovelace", True, Access.RESEARCH)


def test_whoever_listens_hears_of_the_newcomer_in_the_same_transaction(session: Session, root: User) -> None:
    heard: list[tuple[int, int, datetime]] = []

    def listen(session: Session, *, link_id: int, user_id: int, now: datetime) -> None:
        heard.append((link_id, user_id, now))

    fresh = create_invitation(session, role=Role.ANNOTATOR, email=None, created_by_id=root.id, now=NOW)
    user = accept_invitation(session, link=fresh.link, **ADA, now=NOW, on_joined=[listen])
    assert heard == [(fresh.link.id, user.id, NOW)]


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("name", "", "Please fill this in."),
        ("name", "a" * 101, "Use at most 100 characters."),
        ("name", "\u200b", "Please enter a name."),
        ("email", "ada", "This does not look like an email address"),
        ("email", "ada@", "This does not look like an email address"),
        ("email", "a b@c", "This does not look like an email address"),
        ("email", "a@b@c", "This does not look like an email address"),
        ("email", "a\0@c", "This does not look like an email address"),
        ("email", "a" * 251 + "@b.c", "Use at most 254 characters."),
        ("email", "ROOT@example.org", "There is an account with this email already."),
        ("password", "", "Please fill this in."),
        ("password", "nine char", "Use at least 10 characters; this has 9."),
        ("password", "ADA@example.org", "Your email address is the first thing"),
        ("password", "abababababab", "This repeats the same few characters."),
        ("password", "x1y2" * 251, "Use at most 1000 characters."),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_and_the_link_lives_on(
    visitor: TestClient, session: Session, field: str, typed: str, message: str
) -> None:
    root = make_user(session, Role.ADMIN, email="root@example.org")
    path = invitation(session, root)
    answer = send_form(visitor, path, **{**ADA, field: typed})
    assert answer.status_code == 422
    assert field_error(answer, field).startswith(message)
    assert "Ada Lovelace" in answer.text or field == "name"
    assert typed not in answer.text or field != "password" or not typed
    assert visitor.get(path).status_code == 200


def test_a_reset_link_sets_the_password_and_signs_out_everywhere(
    visitor: TestClient, session: Session, root: User, signed_in: SignedIn
) -> None:
    ada = make_user(session, name="Ada", password_hash=hash_password("the old password"))
    thief = signed_in(ada)
    fresh = create_password_reset(session, user=ada, created_by_id=root.id, now=NOW)
    session.commit()
    assert ada.email in visitor.get(fresh.path).text
    assert field_error(send_form(visitor, fresh.path, password=ada.email), "password").startswith("Your email")
    assert send_form(visitor, fresh.path, password=PASSWORD, name="Eve", email="eve@example.org").status_code == 303
    assert "Ada" in visitor.get("/account").text
    assert thief.get("/account").status_code == 303
    assert visitor.get(fresh.path).status_code == 404
    visitor.post("/sign-out")
    other = TestClient(visitor.app, base_url="http://localhost", follow_redirects=False)
    assert sign_in(other, ada.email, "the old password").status_code == 422
    assert sign_in(other, ada.email).status_code == 303


def test_a_reset_link_dies_with_a_newer_one_a_new_password_or_deactivation(session: Session, root: User) -> None:
    ada = make_user(session)

    def reset() -> str:
        return create_password_reset(session, user=ada, created_by_id=root.id, now=NOW).token

    first, second = reset(), reset()
    assert find_usable_link(session, token=first, now=NOW) is None
    set_password(session, user=ada, password=PASSWORD, by_id=ada.id, now=NOW)
    assert find_usable_link(session, token=second, now=NOW) is None
    third = reset()
    deactivate_user(session, user=ada, by_id=root.id, now=NOW)
    assert find_usable_link(session, token=third, now=NOW) is None
    with pytest.raises(Conflict, match="is deactivated"):
        reset()


def test_invitations_by_a_deactivated_admin_stop_working(session: Session, root: User) -> None:
    gone = make_user(session, Role.ADMIN)
    fresh = create_invitation(session, role=Role.ADMIN, email=None, created_by_id=gone.id, now=NOW)
    deactivate_user(session, user=gone, by_id=root.id, now=NOW)
    assert find_usable_link(session, token=fresh.token, now=NOW) is None


def test_an_invitation_can_be_withdrawn(session: Session, root: User) -> None:
    fresh = create_invitation(session, role=Role.ANNOTATOR, email=None, created_by_id=root.id, now=NOW)
    withdraw_invitation(session, link_id=fresh.link.id, by_id=root.id, now=NOW)
    with pytest.raises(NotFound, match="does not open anything"):
        get_usable_link(session, token=fresh.token, now=NOW)
    reset = create_password_reset(session, user=root, created_by_id=root.id, now=NOW)
    with pytest.raises(NotFound, match="no such invitation"):
        withdraw_invitation(session, link_id=reset.link.id, by_id=root.id, now=NOW)


def test_using_a_link_while_signed_in_as_somebody_else_warns_and_switches(
    session: Session, root: User, signed_in: SignedIn
) -> None:
    path = invitation(session, root)
    eve = make_user(session, name="Eve")
    browser = signed_in(eve)
    assert "You are signed in as Eve" in browser.get(path).text
    answer = browser.post(path, data=ADA)
    assert answer.status_code == 303
    assert answer.cookies[SESSION_COOKIE]
    assert eve.id not in session.scalars(select(SignIn.user_id)).all()


def test_a_link_sent_without_our_pages_token_is_refused(visitor: TestClient, session: Session, first: str) -> None:
    assert visitor.post(first, data=ADA).status_code == 403
    assert session.scalar(select(func.count()).select_from(User)) == 0


@pytest.mark.parametrize("token", ["x", "é", "%00", "a" * 5000, "..%2F..%2Fpeople"])
def test_a_mistyped_link_is_a_page_that_says_so(visitor: TestClient, token: str) -> None:
    assert visitor.get(f"/links/{token}").status_code == 404


@pytest.mark.race
@pytest.mark.parametrize("purpose", ["first admin", "invitation"])
def test_of_two_who_send_the_same_link_at_once_one_gets_in(fresh_database: str, purpose: str) -> None:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    with sessions.begin() as session:
        if purpose == "first admin":
            token = create_first_admin_link(session, now=NOW)
        else:
            token = create_invitation(session, role=Role.ADMIN, email=None, created_by_id=None, now=NOW).token
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def join(number: int) -> None:
        given = {**ADA, "email": f"person{number}@example.org"}
        start.wait()
        try:
            with sessions.begin() as session:
                link = get_usable_link(session, token=token, now=NOW, lock=True)
                take = become_first_admin if purpose == "first admin" else accept_invitation
                take(session, link=link, **given, now=NOW)
            outcomes.append("in")
        except NotFound:
            outcomes.append("out")

    run_together(join, 4)
    engine.dispose()
    assert sorted(outcomes) == ["in", "out", "out", "out"]


@pytest.mark.race
@pytest.mark.parametrize("deed", ["deactivate", "demote"])
def test_two_admins_who_remove_each_other_leave_one(fresh_database: str, deed: str) -> None:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    with sessions.begin() as session:
        ids = [make_user(session, Role.ADMIN).id for _ in range(2)]
    start = threading.Barrier(2)

    def remove(number: int) -> None:
        start.wait()
        with sessions() as session:
            other = session.get_one(User, ids[1 - number])
            try:
                if deed == "deactivate":
                    deactivate_user(session, user=other, by_id=ids[number], now=NOW)
                else:
                    set_role(session, user=other, role=Role.MANAGER, by_id=ids[number], now=NOW)
                session.commit()
            except DomainError:
                session.rollback()

    run_together(remove, 2)
    with sessions() as session:
        admins = session.scalars(select(User).where(User.role == Role.ADMIN, User.deactivated_at.is_(None))).all()
    engine.dispose()
    assert len(admins) == 1


def run_together(target: Any, count: int) -> None:
    """Run `target(0)`, `target(1)`, ... in threads of their own and wait for all."""
    threads = [threading.Thread(target=target, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_sign_in_keeps_no_endless_user_agent(session: Session, root: User) -> None:
    start_sign_in(session, user=root, user_agent="x" * 10_000, lasts=INVITATION_LASTS, now=NOW)
    assert len(session.scalars(select(SignIn.user_agent)).one()) == 300
