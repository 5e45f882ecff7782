"""What every answer carries, and how refusals are said."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.errors import Conflict


def test_every_page_forbids_inline_script_and_foreign_origins(visitor: TestClient) -> None:
    policy = visitor.get("/healthz").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


def test_static_files_may_be_kept_for_ever_only_by_their_hashed_address(visitor: TestClient) -> None:
    assert "immutable" in visitor.get("/static/css/base.css?v=abc").headers["cache-control"]
    assert visitor.get("/static/css/base.css").headers["cache-control"] == "no-cache"


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
