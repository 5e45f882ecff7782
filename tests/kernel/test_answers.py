"""What every answer carries, and how refusals are said."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.database import make_engine, make_session_factory
from app.errors import Conflict
from app.main import create_app
from app.settings import Settings
from tests.conftest import StoppedClock


def test_every_page_forbids_inline_script_and_foreign_origins(visitor: TestClient) -> None:
    policy = visitor.get("/healthz").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


def test_an_unknown_address_is_a_page_that_leads_back(visitor: TestClient) -> None:
    answer = visitor.get("/no/such/thing")
    assert answer.status_code == 404
    assert "Back to the start" in answer.text


@pytest.mark.parametrize(
    ("path", "headers", "marker"),
    [
        ("/busy", {}, "<h1>Something changed meanwhile</h1>"),
        ("/busy", {"HX-Request": "true"}, '<div id="notice" role="alert"'),
        ("/api/v1/busy", {}, '"title":"Something changed meanwhile"'),
    ],
)
def test_a_refusal_is_said_as_page_fragment_or_json(
    app: FastAPI, visitor: TestClient, path: str, headers: dict[str, str], marker: str
) -> None:
    @app.get(path)
    def busy() -> None:
        raise Conflict("Somebody else changed it. Reload the page.")

    answer = visitor.get(path, headers=headers)
    assert answer.status_code == 409
    assert marker in answer.text
    assert "Somebody else changed it. Reload the page." in answer.text


def test_a_mistake_of_ours_is_a_page_that_gives_nothing_away(app: FastAPI) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the secret detail")

    browser = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = browser.get("/broken")
    assert answer.status_code == 500
    assert "<h1>Something broke</h1>" in answer.text
    assert "secret" not in answer.text


def test_an_address_that_is_no_number_is_simply_not_there(app: FastAPI, visitor: TestClient) -> None:
    @app.get("/things/{number}")
    def thing(number: int, page: int = 1) -> None:
        pass

    assert "There is nothing at this address" in visitor.get("/things/some").text
    assert visitor.get("/things/1?page=x").status_code == 422
    assert visitor.get("/things/1").status_code == 200


def test_without_its_database_palate_says_so_and_can_be_asked_again(settings: Settings, clock: StoppedClock) -> None:
    nowhere = make_engine("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1")
    app = create_app(settings, session_factory=make_session_factory(nowhere), clock=clock)
    visitor = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    answer = visitor.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "The database does not answer" in answer.text
