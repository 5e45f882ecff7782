"""After signing in one comes back to the page asked for, and to no other site."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.accounts.returning import same_site_path
from app.accounts.service.passwords import hash_password
from tests.accounts.pages import PASSWORD, home, sign_in
from tests.factories.accounts import make_user

TRICKS = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    " //evil.example",
    "/ /evil.example\r\nSet-Cookie: a=b",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "@evil.example",
    "/x\0",
    "",
    "/" + "a" * 3000,
]


@pytest.mark.parametrize("address", TRICKS)
def test_only_a_plain_path_of_this_site_is_come_back_to(address: str) -> None:
    assert same_site_path(address) is None


@pytest.mark.parametrize("address", ["/", "/campaigns/3/prompts?tag=a%20b&page=2#row", "/a//b", "/%2F%2Fevil.example"])
def test_paths_of_this_site_are_come_back_to(address: str) -> None:
    assert same_site_path(address) == address


@given(st.text(alphabet="/\\.:@?#a\t\n ", max_size=12))
@example("/.//evil")
def test_whatever_passes_begins_with_one_slash_and_has_nothing_that_browsers_read_as_one(address: str) -> None:
    passed = same_site_path(address)
    if passed is not None:
        assert passed[0] == "/"
        assert passed[1:2] != "/"
        assert not set(passed) & set("\\\t\n\r ")


@pytest.mark.parametrize("trick", TRICKS[:6])
def test_a_link_to_sign_in_cannot_lead_away(visitor: TestClient, session: Session, trick: str) -> None:
    user = make_user(session, password_hash=hash_password(PASSWORD))
    session.commit()
    page = visitor.get("/sign-in", params={"next": trick})
    assert 'name="next" value=""' in page.text
    assert sign_in(visitor, user.email, next=trick).headers["location"] == home(visitor)
    assert visitor.get("/sign-in", params={"next": trick}).headers["location"] == home(visitor)


def test_a_page_asked_for_is_shown_after_signing_in(visitor: TestClient, session: Session) -> None:
    user = make_user(session, password_hash=hash_password(PASSWORD))
    session.commit()
    asked = visitor.get("/account?said=renamed")
    assert asked.headers["location"] == "/sign-in?next=%2Faccount%3Fsaid%3Drenamed"
    page = visitor.get(asked.headers["location"])
    assert 'name="next" value="/account?said=renamed"' in page.text
    answer = sign_in(visitor, user.email, next="/account?said=renamed")
    assert answer.headers["location"] == "/account?said=renamed"
