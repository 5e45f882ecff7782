"""One's own account: name, password, browsers."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.browsers import browser_name
from app.accounts.models import User
from app.accounts.service.passwords import hash_password, password_matches
from tests.accounts.pages import PASSWORD, field_error, sign_in
from tests.conftest import SignedIn
from tests.factories.accounts import make_user

HASH = hash_password(PASSWORD)
NEW = "eleven loud geese"


@pytest.fixture
def ada(session: Session) -> User:
    """An annotator with a password."""
    return make_user(session, name="Ada", email="ada@example.org", password_hash=HASH)


def test_a_new_name_is_seen_at_once(signed_in: SignedIn, ada: User) -> None:
    browser = signed_in(ada)
    assert browser.post("/account/name", data={"name": "  Ada   Lovelace "}).status_code == 303
    assert "<summary>Ada Lovelace</summary>" in browser.get("/account?said=renamed").text


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "\u202e", "a\u202eb"])
def test_a_name_nobody_could_read_is_refused(signed_in: SignedIn, ada: User, name: str) -> None:
    answer = signed_in(ada).post("/account/name", data={"name": name})
    assert answer.status_code == 422
    assert field_error(answer, "name")
    assert "<summary>Ada</summary>" in answer.text


def test_a_hostile_name_is_only_text(signed_in: SignedIn, ada: User) -> None:
    browser = signed_in(ada)
    browser.post("/account/name", data={"name": "<script>alert(1)</script>"})
    page = browser.get("/account").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_new_password_needs_the_old_one_and_signs_out_the_other_browsers(
    visitor: TestClient, session: Session, signed_in: SignedIn, ada: User
) -> None:
    here, there = signed_in(ada), signed_in(ada)
    answer = here.post("/account/password", data={"old_password": PASSWORD, "new_password": NEW})
    assert answer.headers["location"] == "/account?said=password-changed"
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 303
    assert sign_in(visitor, ada.email).status_code == 422
    assert sign_in(visitor, ada.email, NEW).status_code == 303


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        ("wrong", NEW, "old_password", "This is not your present password."),
        ("", NEW, "old_password", "Please fill this in."),
        (PASSWORD, "short", "new_password", "Use at least 10 characters; this has 5."),
        (PASSWORD, " Ada@example.org", "new_password", "Your email address"),
    ],
)
def test_a_password_change_that_is_refused_says_why_and_changes_nothing(
    session: Session, signed_in: SignedIn, ada: User, *, old: str, new: str, field: str, message: str
) -> None:
    here, there = signed_in(ada), signed_in(ada)
    answer = here.post("/account/password", data={"old_password": old, "new_password": new})
    assert answer.status_code == 422
    assert field_error(answer, field).startswith(message)
    assert NEW not in answer.text
    assert there.get("/account").status_code == 200
    session.refresh(ada)
    assert ada.password_hash == HASH


def test_the_other_browsers_can_be_signed_out(session: Session, signed_in: SignedIn, ada: User) -> None:
    here, there, eve = signed_in(ada), signed_in(ada), signed_in(make_user(session))
    assert "Sign out all other browsers" in here.get("/account").text
    assert here.post("/account/other-browsers").status_code == 303
    assert "You are signed in nowhere else." in here.get("/account").text
    assert there.get("/account").status_code == 303
    assert eve.get("/account").status_code == 200


def test_the_same_password_matches_however_its_accents_are_typed() -> None:
    assert password_matches(hash_password("caf\u00e9 au lait"), "cafe\u0301 au lait")
    assert not password_matches(hash_password("café au lait"), "cafe au lait")


@pytest.mark.parametrize("stored", [None, "!", "", "$argon2id$broken"])
def test_where_there_is_no_hash_no_password_matches(stored: str | None) -> None:
    assert not password_matches(stored, PASSWORD)
    assert not password_matches(stored, "")


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/143.0 Safari/537.36 Edg/143.0", "Edge on Windows"),
        ("Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/143.0 Mobile Safari/537.36", "Chrome on Android"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Safari/604.1", "Safari on iPhone"),
        ("curl/8.9", "curl"),
        ("", "Unknown browser"),
        ("<b>", "Unknown browser"),
    ],
)
def test_browsers_are_told_apart(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == name
