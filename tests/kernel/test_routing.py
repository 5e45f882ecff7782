"""Routes in one thread answer as FastAPI's own do, whatever is sent, and say so where they cannot."""

import threading
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.access import anyone
from app.database import DbSession
from app.errors import Conflict
from app.forms import Submission, submitted
from app.routing import LARGEST_FORM_BYTES, MOST_FIELDS, InOneThread
from tests.accounts.pages import token_in


class Order(BaseModel):
    name: str = ""
    notes: list[str] = []


router = APIRouter(route_class=InOneThread, dependencies=[Depends(anyone)])
usual = APIRouter(prefix="/usual", dependencies=[Depends(anyone)])


def thread_of_dependency() -> int:
    return threading.get_ident()


@router.get("/threads")
def threads(first: Annotated[int, Depends(thread_of_dependency)], request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(first == threading.get_ident()))


@router.post("/orders/{number}")
@usual.post("/orders/{number}")
def order(number: int, form: Annotated[Submission[Order], submitted(Order)], page: int = 1) -> PlainTextResponse:
    return PlainTextResponse(f"{number} {page} {form.typed}")


@router.post("/rename/{name}")
def rename(name: str, session: DbSession) -> PlainTextResponse:
    session.execute(text("UPDATE users SET name = :name"), {"name": name})
    if name == "taken":
        raise Conflict("Choose another name.")
    return PlainTextResponse("renamed")


@router.post("/json")
def json(order: Order) -> PlainTextResponse:
    return PlainTextResponse("never")


@pytest.fixture
def browser(app: FastAPI) -> TestClient:
    app.include_router(router)
    app.include_router(usual)
    browser = TestClient(app, base_url="http://localhost", follow_redirects=False)
    browser.headers["X-CSRF-Token"] = token_in(browser.get("/sign-in"))
    return browser


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BODIES = [
    b"", b"name=a", b"name=a&name=b", b"notes=1&notes=2", b"name=", b"name", b"=x&&", b"name=%C3%A9+x%2B", b"name=%FF",
    "name=é".encode(), b"name=a;notes=b", b"name=a%00b", b"a=%zz&name=1%", b"csrf_token=x&name=n", b"other=1",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_a_form_is_read_as_fastapi_reads_it(browser: TestClient, body: bytes) -> None:
    here, there = (browser.post(f"{start}/orders/7", content=body, headers=FORM) for start in ("", "/usual"))
    assert (here.status_code, here.text) == (200, there.text)


@pytest.mark.parametrize("path", ["/orders/x", "/orders/7?page=x", "/orders/7?page=3", "/orders/99999999999999999999"])
def test_an_address_is_read_as_fastapi_reads_it(browser: TestClient, path: str) -> None:
    def answered(answer: Response) -> tuple[int, str]:
        return answer.status_code, answer.text

    assert answered(browser.post(path, headers={"HX-Request": "true"})) == answered(
        browser.post("/usual" + path, headers={"HX-Request": "true"})
    )


def test_dependencies_and_endpoint_share_a_thread(browser: TestClient) -> None:
    assert browser.get("/threads").text == "True"


def test_what_is_no_small_form_is_answered_all_the_same(browser: TestClient) -> None:
    long = "x" * LARGEST_FORM_BYTES
    assert browser.post("/orders/7", data={"name": long}).text == f"7 1 {{'name': '{long}'}}"
    assert "'name': 'a'" in browser.post("/orders/7", data={"name": "a"}, files={"file": b""}).text
    assert browser.post("/orders/7", json={"name": "a"}).text == "7 1 {}"


def test_a_form_of_too_many_fields_is_refused(browser: TestClient) -> None:
    answer = browser.post("/orders/7", content=b"a&" * MOST_FIELDS + b"a", headers=FORM)
    assert answer.status_code == 400
    assert "too many fields" in answer.text


def test_returning_commits_and_raising_rolls_back(browser: TestClient, session: Session) -> None:
    session.execute(text("INSERT INTO users (email, name, role, password_hash, created_at) "
                         "VALUES ('a@b.c', 'first', 'annotator', '!', now())"))  # fmt: skip
    session.commit()
    assert browser.post("/rename/second").text == "renamed"
    assert browser.post("/rename/taken").status_code == 409
    assert session.scalar(text("SELECT name FROM users")) == "second"


def test_a_route_that_wants_more_is_refused_in_so_many_words(browser: TestClient) -> None:
    with pytest.raises(TypeError, match="body_params, which a route in one thread cannot give"):
        browser.post("/json", headers=FORM)
