"""The logs of real processes: one request is found in all of them, and no secret in any."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import ROOT
from tests.e2e.conftest import RunningPalate, start_palate, stop_palate
from trainer.contract.requests import HEADER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]

PASSWORD = "a password that stays secret"
PROMPT = "Why is the pomegranate of my neighbour blue?"
CAUSE = "journey-of-one-request"
LONG_ENOUGH = 60.0


def csrf_of(page: httpx.Response) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None, page.text[:500]
    return found[1]


def lines_of(palate: RunningPalate, process: str) -> list[dict[str, Any]]:
    """The log of one process; every line must be JSON."""
    return [json.loads(line) for line in (palate.data_dir / "logs" / f"{process}.log").read_text().splitlines()]


def join(palate: RunningPalate) -> httpx.Client:
    """Ada opens her link, mistypes her password once, and signs in."""
    browser = httpx.Client(base_url=palate.address, follow_redirects=True)
    given = {"name": "Ada", "email": "ada@example.org", "password": PASSWORD}
    page = browser.get(palate.first_admin_link)
    assert browser.post(palate.first_admin_link, data={**given, "csrf_token": csrf_of(page)}).status_code == 200
    visitor = httpx.Client(base_url=palate.address)
    wrong = {"email": "ada@example.org", "password": PASSWORD + "!", "csrf_token": csrf_of(visitor.get("/sign-in"))}
    assert visitor.post("/sign-in", data=wrong).status_code in {401, 422}
    return browser


def wait_for_a_model(palate: RunningPalate) -> None:
    """Until the model server answers for the starter: a campaign opened before is filled later, by the clock."""
    published = {"task": "deployments:publish", "ended": "done"}.items()
    deadline = time.monotonic() + LONG_ENOUGH
    while not any(published <= line.items() for line in lines_of(palate, "worker")):
        assert time.monotonic() < deadline, "no model was published"
        time.sleep(0.2)


def open_campaign(browser: httpx.Client) -> None:
    """Her last request makes the worker ask the model server for completions."""
    page = browser.get("/campaigns/new")
    source = re.search(r'name="source".*?<option value="([^"]+)"', page.text, re.DOTALL)
    assert source is not None
    token = {"csrf_token": csrf_of(page)}
    drawing = {"samples_drawn": "2", "temperature": "1", "top_p": "1", "max_tokens": "8"}
    form = {"name": "Fruit", "source": source[1], "comparisons_per_prompt": "1", "redundancy": "1", **drawing}
    for path, sent in (("", form), ("/2/prompts", {"text": PROMPT}), ("/2/opening", {})):
        answer = browser.post(
            f"/campaigns{path}", data={**token, **sent}, headers={HEADER: CAUSE + path[2:].replace("/", "-")},
            follow_redirects=False,
        )  # fmt: skip
        assert answer.status_code == 303, answer.text[:2000]


def test_one_request_is_followed_through_all_logs_and_no_secret_is_in_them(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data", PALATE_LOG_FORMAT="json", PALATE_LOG_LEVEL="DEBUG")
    browser = join(palate)
    wait_for_a_model(palate)
    open_campaign(browser)
    assert browser.get("/campaigns/1/judge").status_code == 200
    deadline = time.monotonic() + LONG_ENOUGH
    followed = {}
    while len(followed) < 3 and time.monotonic() < deadline:
        followed = {
            process: named
            for process in ("web", "worker", "model-server")
            if (named := [line for line in lines_of(palate, process) if line.get("request_id") == f"{CAUSE}-opening"])
        }
        time.sleep(0.2)
    stop_palate(palate)
    assert set(followed) == {"web", "worker", "model-server"}
    (asked,) = [line for line in followed["web"] if line["message"] == "request"]
    assert (asked["route"], asked["status"], asked["person_id"]) == ("/campaigns/{campaign_id}/opening", 303, 1)
    assert any(line.get("task") == "comparisons:fill_queue" for line in followed["worker"])
    assert any(line.get("route") == "/v1/chat/completions" for line in followed["model-server"])

    written = "".join(path.read_text() for path in (palate.data_dir / "logs").iterdir())
    secrets = [
        *(PASSWORD, "pomegranate", "csrf_token", palate.first_admin_link.rpartition("/")[2]),
        *(value for name, value in browser.cookies.items() if name == "palate_session"),
        *((palate.data_dir / name).read_text() for name in ("secret-key", "model-server-token")),
    ]
    assert len(secrets) == 7
    assert [secret for secret in secrets if secret in written] == []


def test_the_trainer_logs_as_it_is_told(tmp_path: Path) -> None:
    told = {"PALATE_LOG_FORMAT": "json", "PALATE_REQUEST_ID": CAUSE}
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "run", str(tmp_path / "nowhere")],
        cwd=ROOT, env={**os.environ, **told}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = json.loads(done.stdout)
    assert (line["process"], line["request_id"]) == ("trainer", CAUSE)
    assert "There is no run folder" in line["message"]
