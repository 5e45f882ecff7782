"""Somebody who has an account takes up an invitation: enrolled, never lowered, and the link is good once."""

import threading
from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Link, Role, User
from app.accounts.service.joining import take_up_invitation
from app.accounts.service.links import (
    create_first_admin_link,
    create_invitation,
    create_password_reset,
    find_usable_link,
    get_usable_link,
    link_path,
)
from app.accounts.service.passwords import hash_password
from app.accounts.service.people import deactivate_user, set_role
from app.audit import AuditEntry
from app.campaigns.models import Access, Campaign, Enrolment, InvitedEnrolment
from app.campaigns.service import take_up_invited_enrolments
from app.database import make_engine, make_session_factory
from app.errors import DomainError
from tests.accounts.pages import PASSWORD, send_form, token_in
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session, name="Politeness")


@pytest.fixture
def root(session: Session) -> User:
    return make_user(session, Role.ADMIN, name="Root")


def invited(
    session: Session, campaign: Campaign, by: User, *, role: Role = Role.ANNOTATOR, access: Access = Access.NONE
) -> str:
    """The path of an invitation to judge in a campaign, and perhaps more."""
    fresh = create_invitation(session, role=role, email=None, created_by_id=by.id, now=NOW)
    session.add(InvitedEnrolment(link_id=fresh.link.id, campaign_id=campaign.id, judges=True, access=access))
    session.commit()
    return fresh.path


def part_of(session: Session, user: User) -> tuple[bool, Access] | None:
    session.expire_all()
    found = session.scalars(select(Enrolment).where(Enrolment.user_id == user.id)).one_or_none()
    return None if found is None else (found.judges, found.access)


def test_whoever_is_signed_in_takes_an_invitation_up_as_themselves_once(
    session: Session, signed_in: SignedIn, campaign: Campaign, root: User
) -> None:
    path, ben, eve = invited(session, campaign, root), make_user(session, name="Ben"), make_user(session)
    browser = signed_in(ben)
    assert "Take it up as Ben" in browser.get(path).text
    assert browser.post(f"{path}/acceptance").headers["location"] == browser.app.url_path_for("home")  # type: ignore[attr-defined]
    assert part_of(session, ben) == (True, Access.NONE)
    assert browser.get(f"/campaigns/{campaign.id}/judge").status_code == 200, "still signed in, as themselves"
    for again in (browser, signed_in(eve)):
        assert again.post(f"{path}/acceptance").status_code == 404
        assert again.get(path).status_code == 404
    assert part_of(session, eve) is None


def test_whoever_is_not_signed_in_is_led_through_signing_in_and_back(
    session: Session, visitor: TestClient, campaign: Campaign, root: User
) -> None:
    path = invited(session, campaign, root)
    ben = make_user(session, name="Ben", email="ben@example.org", password_hash=hash_password(PASSWORD))
    session.commit()
    assert f'href="/sign-in?next={path}"' in visitor.get(path).text
    answer = send_form(
        visitor, f"/sign-in?next={path}", "/sign-in", email="ben@example.org", password=PASSWORD, next=path
    )
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    page = visitor.get(path)
    taken = visitor.post(f"{path}/acceptance", data={"csrf_token": token_in(page)})
    assert taken.status_code == 303
    assert part_of(session, ben) == (True, Access.NONE)


def test_nobody_takes_one_up_unsigned_or_without_our_pages_token(
    session: Session, app: FastAPI, visitor: TestClient, signed_in: SignedIn, campaign: Campaign, root: User
) -> None:
    path = invited(session, campaign, root)
    token = token_in(visitor.get(path))
    assert visitor.post(f"{path}/acceptance", data={"csrf_token": token}).headers["location"].startswith("/sign-in")
    ben = signed_in(make_user(session))
    del ben.headers["X-CSRF-Token"]
    assert ben.post(f"{path}/acceptance").status_code == 403
    assert ben.post(f"{path}/acceptance", data={"csrf_token": token}).status_code == 403, "another visitor's"
    assert session.scalars(select(Link.consumed_at)).all() == [None]


def test_a_role_is_raised_and_never_lowered(session: Session, campaign: Campaign, root: User) -> None:
    for before, promised, after in (
        (Role.ANNOTATOR, Role.RESEARCHER, Role.RESEARCHER),
        (Role.MANAGER, Role.ANNOTATOR, Role.MANAGER),
        (Role.ADMIN, Role.RESEARCHER, Role.ADMIN),
    ):
        user = make_user(session, before)
        path = invited(session, campaign, root, role=promised, access=Access.RESEARCH)
        link = get_usable_link(session, token=path.rpartition("/")[2], now=NOW)
        take_up_invitation(session, link=link, user_id=user.id, now=NOW, on_joined=[take_up_invited_enrolments])
        assert user.role is after
        assert part_of(session, user) == (True, Access.RESEARCH)


def test_a_part_that_somebody_has_only_grows(
    session: Session, signed_in: SignedIn, campaign: Campaign, root: User
) -> None:
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
    path = invited(session, campaign, root)
    assert signed_in(manager).post(f"{path}/acceptance").status_code == 303
    assert part_of(session, manager) == (True, Access.MANAGE)


def test_whoever_has_it_all_already_leaves_the_link_to_somebody_else(
    session: Session, signed_in: SignedIn, campaign: Campaign, root: User
) -> None:
    path, ben = invited(session, campaign, root), make_user(session)
    enrol(session, ben, campaign)
    session.commit()
    answer = signed_in(ben).post(f"{path}/acceptance")
    assert answer.status_code == 409
    assert "Pass it on" in answer.text
    assert signed_in(make_user(session)).post(f"{path}/acceptance").status_code == 303


@pytest.mark.parametrize("other", ["reset", "first admin"])
def test_no_other_link_is_taken_up_as_oneself(session: Session, signed_in: SignedIn, other: str) -> None:
    ben = make_user(session, name="Ben")
    if other == "reset":
        path = create_password_reset(session, user=make_user(session), created_by_id=None, now=NOW).path
    else:
        path = link_path(create_first_admin_link(session, now=NOW))
    session.commit()
    browser = signed_in(ben)
    assert "Take it up" not in browser.get(path).text
    assert browser.post(f"{path}/acceptance").status_code == 409
    assert session.scalars(select(Link.consumed_at)).all() == [None]
    assert ben.role is Role.ANNOTATOR


def test_one_that_ran_out_or_whose_author_was_shut_out_gives_nothing(
    session: Session, signed_in: SignedIn, campaign: Campaign, root: User, clock: StoppedClock
) -> None:
    author = make_user(session, Role.ADMIN)
    by_author, by_root = invited(session, campaign, author), invited(session, campaign, root)
    deactivate_user(session, user=author, by_id=root.id, now=NOW)
    session.commit()
    ben = make_user(session)
    assert signed_in(ben).post(f"{by_author}/acceptance").status_code == 404
    clock.forward(days=15)
    assert signed_in(ben).post(f"{by_root}/acceptance").status_code == 404
    assert part_of(session, ben) is None


def test_an_admin_who_is_lowered_keeps_no_link_that_lets_an_admin_in(session: Session, root: User) -> None:
    other = make_user(session, Role.ADMIN)
    kept = create_invitation(session, role=Role.ADMIN, email=None, created_by_id=other.id, now=NOW)
    set_role(session, user=other, role=Role.ANNOTATOR, by_id=root.id, now=NOW)
    assert find_usable_link(session, token=kept.token, now=NOW + timedelta(seconds=1)) is None


@pytest.mark.race
def test_of_two_who_take_the_same_invitation_up_at_once_one_is_enrolled(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    with sessions.begin() as session:
        campaign, root = make_campaign(session), make_user(session, Role.ADMIN)
        people = [make_user(session).id for _ in range(6)]
        token = invited(session, campaign, root).rpartition("/")[2]
    outcomes: list[str] = []
    gate = threading.Barrier(len(people))

    def take_up(user_id: int) -> None:
        gate.wait()
        try:
            with sessions.begin() as session:
                link = get_usable_link(session, token=token, now=NOW, lock=True)
                hooks = [take_up_invited_enrolments]
                take_up_invitation(session, link=link, user_id=user_id, now=NOW, on_joined=hooks)
            outcomes.append("in")
        except DomainError:
            outcomes.append("late")

    threads = [threading.Thread(target=take_up, args=(user_id,)) for user_id in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in", *["late"] * 5]
    with sessions() as session:
        assert len(session.scalars(select(Enrolment)).all()) == 1
        assert len(session.scalars(select(AuditEntry).where(AuditEntry.action == "link.consumed")).all()) == 1
    engine.dispose()
