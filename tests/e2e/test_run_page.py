"""The page of a run in a browser, where no trainer is needed to see it: silence that is told, samples of before."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from app.training.models import Run, RunState
from tests.conftest import NOW
from tests.e2e.conftest import browser, playwright
from tests.e2e.everything import Site, serving
from tests.factories.deployments import make_line
from tests.factories.training import make_run
from tests.kernel.walking import Member
from tests.training.reports import watched

__all__ = ["browser", "playwright"]
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("browser")]

ROW = {"at": NOW.isoformat(), "stage": "training", "fraction": 0.5, "step": 40, "total_steps": 80, "loss": 0.5}
HEARD = "document.dispatchEvent(new Event('htmx:sse:after:message'))"


@pytest.fixture(scope="module")
def site(template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(template_database, tmp_path_factory.mktemp("run-page")) as site:
        yield site


@pytest.fixture(scope="module")
def run(site: Site) -> Run:
    """A run under way with two evaluations behind it."""
    samples = [watched(0, "As before."), watched(20, "Half-way."), watched(40, "By now.")]
    given: dict[str, Any] = {"metrics": [ROW], "latest": ROW, "samples": samples, "started_at": NOW}
    return make_run(site.session, make_line(site.session), state=RunState.RUNNING, **given)


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    with site.opened_by(browser, Member.ADMIN) as context:
        yield context


def test_an_open_page_tells_by_itself_that_nothing_is_heard_of_the_run(
    site: Site, context: BrowserContext, run: Run
) -> None:
    page = context.new_page()
    page.clock.install()
    address = f"{site.address}/runs/{run.id}"
    page.goto(address)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for _ in range(14):
        page.evaluate(HEARD)
        page.clock.run_for(20_000)
    assert address not in requests, "where signs of life come, nothing is asked by the clock"
    site.app.state.clock = lambda: NOW + timedelta(minutes=6)
    page.evaluate(HEARD)
    page.clock.run_for(25_000)
    expect(page.locator("#silent")).to_contain_text("Nothing has been heard of it since")
    assert requests.count(address) == 1


def test_a_page_that_is_not_answered_says_so_until_it_is(site: Site, context: BrowserContext, run: Run) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(f"{site.address}/runs/{run.id}")
    page.evaluate(HEARD)
    notice = page.locator("#unanswered")
    context.set_offline(True)
    page.clock.run_for(60_000)
    expect(notice).to_contain_text("Palate does not answer")
    context.set_offline(False)
    page.clock.run_for(25_000)
    expect(notice).to_be_hidden()


def test_samples_of_before_are_unfolded_without_scripts_and_chosen_with_them(
    site: Site, browser: Browser, context: BrowserContext, run: Run
) -> None:
    page = context.new_page()
    page.goto(f"{site.address}/runs/{run.id}")
    shown = page.locator("#watched-1 [data-evaluation]:not([hidden])")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("By now.")
    page.get_by_label("Evaluation").press("Home")
    expect(shown).to_have_count(1)
    expect(shown.get_by_text("Half-way.")).to_be_visible()

    plain = browser.new_context(java_script_enabled=False, storage_state=context.storage_state())
    reader = plain.new_page()
    reader.goto(f"{site.address}/runs/{run.id}")
    expect(reader.get_by_text("By now.")).to_be_visible()
    expect(reader.get_by_text("Half-way.")).not_to_be_visible()
    reader.locator("#watched-1 summary", has_text="Step 20").click()
    expect(reader.get_by_text("Half-way.")).to_be_visible()
    plain.close()
