"""The people of the installation, as admins find, invite, change and shut them out."""

import re
from html import unescape

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.accounts.service.passwords import hash_password
from app.accounts.service.people import (
    count_people,
    create_user,
    deactivate_user,
    get_user_by_email,
    list_people,
    rename,
    set_role,
)
from app.accounts.views.people import PER_PAGE
from app.audit import AuditEntry
from app.errors import Conflict, Invalid, NotFound
from tests.accounts.pages import PASSWORD, field_error, send_form, sign_in
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user


@pytest.fixture
def root(session: Session) -> User:
    """An admin."""
    return make_user(session, Role.ADMIN, name="Root")


@pytest.fixture
def browser(root: User, signed_in: SignedIn) -> TestClient:
    """The admin's browser."""
    return signed_in(root)


def fresh_address(page: str) -> str:
    """The link on a page that shows one."""
    found = re.search(r'id="address" value="([^"]*)"', page)
    assert found
    return unescape(found[1])


def names(page: str) -> list[str]:
    """The people listed on a page."""
    return re.findall(r'<span class="who"><a href="[^"]*">([^<]*)</a>', page)


def test_a_user_is_taken_in_once_per_email_however_capitalised(session: Session) -> None:
    ada = create_user(
        session, email=" Ada@example.org ", name=" Ada  L. ", role=Role.MANAGER, password=PASSWORD, now=NOW
    )
    assert (ada.email, ada.name) == ("Ada@example.org", "Ada L.")
    assert get_user_by_email(session, "aDA@EXAMPLE.org") is ada
    with pytest.raises(Conflict, match="already"):
        create_user(session, email="ada@example.org", name="Eve", role=Role.ADMIN, password=PASSWORD, now=NOW)
    assert session.scalars(select(User)).one() is ada, "the refusal leaves the transaction usable"


@pytest.mark.parametrize(
    ("email", "name", "password"),
    [("ada", "Ada", PASSWORD), ("a@b.c", " ", PASSWORD), ("a@b.c", "Ada", "short"), ("ab@cde.fg", "Ada", "AB@cde.fg")],
)
def test_poor_input_is_refused_on_every_way_in(session: Session, email: str, name: str, password: str) -> None:
    with pytest.raises(Invalid):
        create_user(session, email=email, name=name, role=Role.ANNOTATOR, password=password, now=NOW)


def test_everybody_is_listed_the_active_first_with_when_they_were_seen(
    session: Session, browser: TestClient, signed_in: SignedIn, clock: StoppedClock
) -> None:
    zoe, ada, bob = (make_user(session, name=name) for name in ("Zoe", "ada", "Bob"))
    signed_in(zoe)
    deactivate_user(session, user=ada, by_id=None, now=NOW)
    session.commit()
    clock.forward(hours=2)
    page = browser.get("/people").text
    assert names(page) == ["Bob", "Root", "Zoe", "ada"]
    assert "last seen 2 hours ago" in page
    assert "deactivated" in page
    assert bob.email in page


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("love", ["Ada Lovelace"]),
        ("LOVE ada", ["Ada Lovelace"]),
        ("example.net", ["Percy 100%"]),
        ("%", ["Percy 100%"]),
        ("_", []),
        ("\\", []),
        ("nobody", []),
        ("", ["Ada Lovelace", "Percy 100%"]),
    ],
)
def test_search_looks_for_every_word_in_names_and_emails(session: Session, search: str, found: list[str]) -> None:
    make_user(session, name="Ada Lovelace", email="ada@example.org")
    make_user(session, name="Percy 100%", email="percy@example.net")
    assert [person.name for person in list_people(session, search=search)] == found
    assert count_people(session, search=search) == len(found)


def test_a_search_that_finds_nobody_says_so_and_leads_on(browser: TestClient) -> None:
    page = browser.get("/people", params={"q": "<b>nobody"}).text
    assert "Nobody found for “&lt;b&gt;nobody”." in page
    assert "Show everybody" in page


@pytest.mark.parametrize("query", ["q=%00", "q=" + "a" * 5000, "page=0", "page=x", "page=" + "9" * 30, "page=100000"])
def test_odd_searches_are_answered_as_pages(browser: TestClient, query: str) -> None:
    answer = browser.get(f"/people?{query}")
    assert answer.status_code in {200, 404, 422}
    assert "</html>" in answer.text


def test_htmx_gets_the_list_alone(browser: TestClient) -> None:
    fragment = browser.get("/people?q=root", headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<section id="people"')
    assert "<html" not in fragment


def test_many_people_are_turned_over_page_by_page(session: Session, browser: TestClient) -> None:
    for number in range(PER_PAGE):
        make_user(session, name=f"Twin {number:02}")
    session.commit()
    first = browser.get("/people?q=").text
    assert len(names(first)) == PER_PAGE
    assert "Page 1 of 2" in first
    assert names(browser.get("/people?page=2").text) == ["Twin 49"]
    assert "Nobody on this page." in browser.get("/people?page=9").text


def test_an_invitation_is_shown_once_and_lets_its_holder_in(
    app: FastAPI, session: Session, browser: TestClient
) -> None:
    page = browser.post("/people/invitations", data={"email": "", "role": "manager"})
    assert page.status_code == 201
    address = fresh_address(page.text)
    assert address.startswith("http://localhost/links/")
    listed = browser.get("/people/invitations").text
    assert "anyone with the link" in listed
    assert "by Root" in listed
    assert address.rpartition("/")[2] not in listed
    newcomer = TestClient(app, base_url="http://localhost", follow_redirects=False)
    joined = send_form(newcomer, address, name="Ada", email="ada@example.org", password=PASSWORD)
    assert joined.status_code == 303
    assert get_user_by_email(session, "ada@example.org").role is Role.MANAGER
    assert "anyone with the link" not in browser.get("/people/invitations").text


def test_the_link_names_the_address_that_people_use(
    browser: TestClient, app: FastAPI, session: Session, root: User
) -> None:
    app.state.settings = app.state.settings.model_copy(update={"base_url": "https://palate.example.org/"})
    page = browser.post("/people/invitations", data={"role": "annotator"})
    assert fresh_address(page.text).startswith("https://palate.example.org/links/")


@pytest.mark.parametrize(
    ("email", "message"), [("ada", "This does not look like"), ("ROOT@example.org", "Root has an account")]
)
def test_an_invitation_to_a_wrong_or_known_email_is_refused(
    session: Session, browser: TestClient, root: User, email: str, message: str
) -> None:
    root.email = "root@example.org"
    session.commit()
    answer = browser.post("/people/invitations", data={"email": email, "role": "annotator"})
    assert answer.status_code == 422
    assert field_error(answer, "email").startswith(message)


def test_a_withdrawn_invitation_is_gone(app: FastAPI, session: Session, browser: TestClient) -> None:
    address = fresh_address(browser.post("/people/invitations", data={"role": "annotator"}).text)
    action = re.search(r'action="(/people/invitations/\d+/withdrawal)"', browser.get("/people/invitations").text)
    assert action
    assert browser.post(action[1]).status_code == 303
    assert browser.get(address).status_code == 404


def test_a_role_changes_at_once_in_open_browsers(session: Session, browser: TestClient, signed_in: SignedIn) -> None:
    ada = make_user(session, Role.ADMIN)
    hers = signed_in(ada)
    assert hers.get("/people").status_code == 200
    assert browser.post(f"/people/{ada.id}/role", data={"role": "annotator"}).status_code == 303
    assert hers.get("/people").status_code == 403


def test_nobody_changes_or_removes_themselves_or_the_last_admin(
    session: Session, browser: TestClient, root: User
) -> None:
    for path, data in ((f"/people/{root.id}/role", {"role": "annotator"}), (f"/people/{root.id}/deactivation", {})):
        answer = browser.post(path, data=data)
        assert answer.status_code == 409
        assert "Ask another admin" in answer.text
    with pytest.raises(Conflict, match="only active admin"):
        deactivate_user(session, user=root, by_id=None, now=NOW)
    with pytest.raises(Conflict, match="only active admin"):
        set_role(session, user=root, role=Role.MANAGER, by_id=None, now=NOW)
    second = make_user(session, Role.ADMIN)
    deactivate_user(session, user=second, by_id=root.id, now=NOW)
    with pytest.raises(Conflict, match="only active admin"):
        deactivate_user(session, user=root, by_id=None, now=NOW)


def test_a_person_is_deactivated_after_a_question_and_let_in_again(
    session: Session, browser: TestClient, signed_in: SignedIn, visitor: TestClient
) -> None:
    ada = make_user(session, name="Ada", password_hash=hash_password(PASSWORD))
    hers = signed_in(ada)
    assert "Deactivate Ada?" in browser.get(f"/people/{ada.id}/deactivation").text
    assert hers.get("/account").status_code == 200, "asking does nothing"
    assert browser.post(f"/people/{ada.id}/deactivation").status_code == 303
    assert hers.get("/account").status_code == 303
    assert sign_in(visitor, ada.email).status_code == 422
    page = browser.get(f"/people/{ada.id}").text
    assert "Let them sign in again" in page
    assert browser.post(f"/people/{ada.id}/password-reset").status_code == 409
    assert browser.post(f"/people/{ada.id}/reactivation").status_code == 303
    assert sign_in(visitor, ada.email).status_code == 303


def test_an_admin_makes_a_link_for_a_forgotten_password(
    session: Session, browser: TestClient, visitor: TestClient
) -> None:
    ada = make_user(session, name="Ada", password_hash=hash_password("forgotten by Ada"))
    session.commit()
    page = browser.post(f"/people/{ada.id}/password-reset")
    assert page.status_code == 201
    assert send_form(visitor, fresh_address(page.text), password=PASSWORD).status_code == 303
    assert "Ada" in visitor.get("/account").text


@pytest.mark.parametrize("number", ["0", "999999", "99999999999999999999", "somebody", "-1", "1.5"])
def test_a_person_who_is_not_there_is_a_page_that_says_so(browser: TestClient, number: str) -> None:
    answer = browser.get(f"/people/{number}")
    assert answer.status_code == 404
    assert "Back to the start" in answer.text


def test_a_role_that_does_not_exist_is_refused(session: Session, browser: TestClient) -> None:
    ada = make_user(session)
    session.commit()
    assert browser.post(f"/people/{ada.id}/role", data={"role": "emperor"}).status_code == 422
    assert browser.post("/people/invitations", data={"role": "emperor"}).status_code == 422


def test_an_unknown_email_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound, match=r"nobody@example\.org"):
        get_user_by_email(session, "nobody@example.org")


def test_every_deed_is_in_the_audit_log_with_who_did_it(session: Session, root: User) -> None:
    ada = make_user(session, name="Ada")
    rename(session, user=ada, name="Ada L.", by_id=root.id, now=NOW)
    set_role(session, user=ada, role=Role.MANAGER, by_id=root.id, now=NOW)
    deactivate_user(session, user=ada, by_id=root.id, now=NOW)
    session.flush()
    entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [entry.action for entry in entries] == ["user.renamed", "user.role_changed", "user.deactivated"]
    assert {entry.actor_id for entry in entries} == {root.id}
    assert entries[1].details == {"before": "annotator", "after": "manager"}
