"""Guessing passwords becomes slow, for an email and for an address, and stays bearable for the owner."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts.models import SignInAttempt, User
from app.accounts.service.passwords import hash_password
from app.accounts.service.throttling import (
    FREE_PER_ADDRESS,
    FREE_PER_EMAIL,
    LONGEST_WAIT,
    SHORTEST_WAIT,
    record_failure,
    require_patience,
    subjects,
    wait_after,
)
from app.database import make_engine, make_session_factory
from app.errors import TooManyRequests
from tests.accounts.pages import PASSWORD, sign_in
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user

HASH = hash_password(PASSWORD)


@pytest.fixture
def ada(session: Session) -> User:
    """Somebody whose password is guessed at."""
    user = make_user(session, email="ada@example.org", password_hash=HASH)
    session.commit()
    return user


def fail(session: Session, times: int, *, email: str = "ada@example.org", address: str = "testclient") -> None:
    for _ in range(times):
        record_failure(session, email=email, address=address, now=NOW)
    session.commit()


def test_waits_double_from_the_shortest_to_the_longest() -> None:
    waits = [wait_after(failures, free=5).total_seconds() for failures in range(4, 13)]
    assert waits == [0, 15, 30, 60, 120, 240, 480, 900, 900]
    assert wait_after(10**6, free=5) == LONGEST_WAIT


def test_after_a_few_failures_even_the_right_password_waits_and_is_told_how_long(
    visitor: TestClient, session: Session, ada: User, clock: StoppedClock
) -> None:
    for _ in range(FREE_PER_EMAIL):
        assert sign_in(visitor, ada.email, "wrong").status_code == 422
    answer = sign_in(visitor, "ADA@example.org")
    assert answer.status_code == 429
    assert "Wait 15 seconds and try again" in answer.text
    assert "ask an admin for a link" in answer.text
    assert 'value="ADA@example.org"' in answer.text
    clock.forward(seconds=SHORTEST_WAIT.total_seconds())
    assert sign_in(visitor, ada.email).status_code == 303


def test_attempts_during_the_wait_do_not_lengthen_it(
    visitor: TestClient, session: Session, ada: User, clock: StoppedClock
) -> None:
    fail(session, FREE_PER_EMAIL)
    clock.forward(seconds=10)
    for _ in range(5):
        assert sign_in(visitor, ada.email, "wrong").status_code == 429
    clock.forward(seconds=5)
    assert sign_in(visitor, ada.email).status_code == 303


def test_getting_in_clears_the_count_of_the_email_but_not_of_the_address(
    visitor: TestClient, session: Session, ada: User
) -> None:
    fail(session, FREE_PER_EMAIL - 1)
    sign_in(visitor, ada.email)
    left = session.scalars(select(SignInAttempt.subject)).all()
    assert set(left) == {"address:testclient"}
    assert len(left) == FREE_PER_EMAIL - 1


def test_an_address_that_tries_many_emails_waits_for_all_of_them(
    visitor: TestClient, session: Session, ada: User, clock: StoppedClock
) -> None:
    for number in range(FREE_PER_ADDRESS):
        record_failure(session, email=f"person{number}@example.org", address="testclient", now=clock())
    session.commit()
    assert sign_in(visitor, ada.email).status_code == 429


def test_another_address_is_not_held_back(session: Session, ada: User) -> None:
    fail(session, FREE_PER_ADDRESS, email="somebody@example.org", address="192.0.2.1")
    require_patience(session, email=ada.email, address="192.0.2.2", now=NOW)
    with pytest.raises(TooManyRequests):
        require_patience(session, email=ada.email, address="192.0.2.1", now=NOW)


def test_an_ipv6_network_counts_as_one_address() -> None:
    def key(address: str) -> str:
        return subjects(email="a@b", address=address)[1].key

    assert key("2001:db8::1") == key("2001:db8::ffff:2")
    assert key("2001:db8::1") != key("2001:db8:0:1::1")
    assert key("::ffff:192.0.2.1") == key("192.0.2.1")


def test_old_failures_are_forgotten(session: Session, ada: User) -> None:
    fail(session, 20)
    later = NOW + timedelta(hours=7)
    require_patience(session, email=ada.email, address="192.0.2.9", now=later)
    record_failure(session, email="else@example.org", address="192.0.2.9", now=later)
    assert session.scalar(select(func.count()).select_from(SignInAttempt)) == 2


def test_guesses_at_the_present_password_count_as_well(session: Session, signed_in: SignedIn, ada: User) -> None:
    browser = signed_in(ada)
    guess = {"old_password": "wrong", "new_password": "another long password"}
    for _ in range(FREE_PER_EMAIL):
        assert browser.post("/account/password", data=guess).status_code == 422
    assert browser.post("/account/password", data={**guess, "old_password": PASSWORD}).status_code == 429


@pytest.mark.race
def test_guesses_sent_at_once_do_not_slip_past_the_count(fresh_database: str) -> None:
    engine = make_engine(fresh_database, pool_size=8)
    sessions = make_session_factory(engine)

    def guess(_: int) -> bool:
        with sessions.begin() as session:
            try:
                require_patience(session, email="ada@example.org", address="192.0.2.1", now=NOW)
            except TooManyRequests:
                return False
            record_failure(session, email="ada@example.org", address="192.0.2.1", now=NOW)
            return True

    with ThreadPoolExecutor(8) as pool:
        let_through = sum(pool.map(guess, range(64)))
    engine.dispose()
    assert let_through <= FREE_PER_EMAIL
