"""A crowd with one taste that judges, trains and looks over plain HTTP, as a browser without JavaScript does."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tests.e2e.conftest import RunningPalate

FORM = re.compile(r'<form[^>]*action="(?P<url>[^"]+)"[^>]*>(?P<inside>.*?)</form>', re.DOTALL)
FIELD = re.compile(r'<input type="hidden"\s+name="(\w+)"\s+value="([^"]*)"')
TEXT = re.compile(r'<article class="completion".*?<div class="prose"[^>]*>(.*?)</div>', re.DOTALL)
PATIENCE_SECONDS = 240


@dataclass
class Crowd:
    """The first admin, who speaks for the crowd. `campaign` is the address of the campaign's page."""

    client: httpx.Client
    campaign: str

    @classmethod
    def joining(cls, palate: RunningPalate) -> Crowd:
        """Take up the first admin's link; the campaign is the one that is open from the start."""
        client = httpx.Client(base_url=palate.address, follow_redirects=True, trust_env=False, timeout=30)
        page = client.get(palate.first_admin_link)
        person = {"name": "Ada", "email": "ada@example.org", "password": "a long enough password"}
        _send(client, page, palate.first_admin_link, **person)
        return cls(client, re.findall(r'href="(/campaigns/\d+)"', client.get("/campaigns").text)[0])

    def judge(self, ranking_of: Callable[[str, str], str], *, decided: int) -> None:
        """Judge until so many verdicts are no ties; `ranking_of` is told both texts and answers as on the wire."""
        page = self.client.get(f"{self.campaign}/judge")
        while decided:
            shown = [html.unescape(re.sub(r"<[^>]+>", "", found)).strip() for found in TEXT.findall(page.text)]
            if not shown:
                time.sleep(0.2)  # completions are being made
                page = self.client.get(f"{self.campaign}/judge")
                continue
            first, second = shown
            ranking = ranking_of(first, second)
            page = _send(self.client, page, "/judgment", ranking=ranking)
            decided -= ranking != "1=2"

    def train(self) -> str:
        """Press Train, wait until the run is over, and return its page."""
        page = _send(self.client, self.client.get(f"{self.campaign}/training"), "/runs")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while 'id="progress"' in page.text:
            assert time.monotonic() < deadline, "the run did not end"
            time.sleep(0.5)
            page = self.client.get(page.url)
        return page.text


def _send(client: httpx.Client, page: httpx.Response, action: str, **fields: str) -> httpx.Response:
    """Fill in the form of a page whose address ends in `action`, and send it."""
    form = next(found for found in FORM.finditer(page.text) if found["url"].endswith(httpx.URL(action).path))
    answer = client.post(form["url"], data={**dict(FIELD.findall(form["inside"])), **fields})
    assert answer.is_success, f"{answer.status_code}: {answer.text[:2000]}"
    return answer
