"""How much of a request is read, and from whom."""

from collections.abc import Iterator

from fastapi import Depends, FastAPI, Request
from fastapi.testclient import TestClient

from app.accounts.access import STRANGERS_BYTES, anyone


def test_a_strangers_file_is_refused_unread(visitor: TestClient) -> None:
    def body() -> Iterator[bytes]:
        yield from (b"x" * STRANGERS_BYTES for _ in range(100))

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = visitor.post("/sign-in", content=body(), headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    declared = {**headers, "Content-Length": str(STRANGERS_BYTES + 1)}
    assert visitor.post("/sign-in", content=b"x", headers=declared).status_code == 303


def test_far_more_than_an_upload_may_hold_is_cut_off(app: FastAPI) -> None:
    @app.post("/files", dependencies=[Depends(anyone)])
    async def take(request: Request) -> int:
        return len(await request.body())

    browser = TestClient(app, base_url="http://localhost", follow_redirects=False)
    settings = app.state.settings
    page = browser.get("/sign-in").text
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    headers = {"X-CSRF-Token": token, "Content-Type": "application/octet-stream"}
    assert browser.post("/files", content=b"x" * 2**20, headers=headers).json() == 2**20
    too_much = {**headers, "Content-Length": str((2 * settings.upload_megabytes + 1) * 2**20)}
    assert browser.post("/files", content=b"x", headers=too_much).status_code == 413
