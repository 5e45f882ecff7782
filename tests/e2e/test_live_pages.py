"""A run's page moves by itself: by events where they come, by the clock where they do not."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, Route, StorageState, expect

from tests.e2e.conftest import RunningPalate, join, start_palate, stop_palate
from tests.e2e.test_accessible import AXE, LOOKS, problems
from tests.factories.datasets import house, write_lines

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(600)]

FILL = "(field, value) => { if (field.type === 'checkbox') field.checked = true; else field.value = value; }"
COMPLETIONS = ("Happily! It is a number.", "No idea. Look it up.")


@pytest.fixture(scope="module")
def palate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPalate]:
    """A stack of its own: what is trained here is nobody else's to find."""
    running = start_palate(tmp_path_factory.mktemp("live") / "data")
    yield running
    stop_palate(running)


@pytest.fixture(scope="module")
def ada(browser: Browser, palate: RunningPalate) -> StorageState:
    """Its first admin's cookies."""
    context = browser.new_context(base_url=palate.address)
    join(context.new_page(), palate.first_admin_link, name="Ada")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(scope="module")
def judged(palate: RunningPalate) -> None:
    """Enough verdicts for a run of some seconds, imported."""
    lines = [house(f"What is {number} in letters?", "1>2", completions=COMPLETIONS) for number in range(60)]
    file = write_lines(palate.data_dir.parent / "judged.jsonl", lines)
    done = palate.command("comparisons", "import", str(file), "--campaign", "First steps")
    assert done.returncode == 0, done.stderr


def start_run(page: Page, **settings: float) -> None:
    """Press Train, unless told otherwise with so many epochs that there is something to watch."""
    page.goto("/models")
    page.get_by_role("link", name="Versions and history").first.click()
    page.get_by_role("main").get_by_role("link", name="Train", exact=True).first.click()
    for name, value in {"epochs": 40, **settings}.items():
        page.locator(f"[name={name}]").evaluate(FILL, str(value))
    page.get_by_role("main").get_by_role("button", name="Train").click()
    page.wait_for_url(re.compile(r"/runs/\d+$"))


def watched(page: Page) -> list[Request]:
    """All that the page asks for from now on."""
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request))  # noqa: PLW0108 - playwright marks what it calls
    return seen


def loads(seen: list[Request]) -> Counter[str]:
    return Counter(request.resource_type for request in seen)


def choose_an_evaluation_by_keyboard(page: Page) -> None:
    """Samples of the newest evaluation stand beside those of before; an older one, once chosen, stays."""
    choice, said = page.get_by_label("Evaluation"), page.locator("#evaluation-said")
    expect(page.locator("#evaluation-steps li").nth(2)).to_be_attached(timeout=60_000)
    shown = page.locator("#watched-1 [data-evaluation]:not([hidden])")
    expect(shown).to_have_count(1)
    choice.focus()
    page.keyboard.press("Home")
    expect(said).to_have_text("Step 20")
    expect(shown).to_contain_text("Step 20")
    assert choice.get_attribute("aria-valuetext") == "Step 20"
    steps = page.locator("#table-loss tbody tr")
    expect(steps.nth(steps.count() + 5)).to_be_attached(timeout=30_000)
    expect(said).to_have_text("Step 20")
    expect(choice).to_be_focused()
    page.keyboard.press("End")
    expect(said).not_to_have_text("Step 20")
    expect(shown).to_have_count(1)


def test_events_are_heard_however_slowly_the_scripts_come(page: Page) -> None:
    arrived: list[str] = []

    def late(route: Route) -> None:
        arrived.append(route.request.url)
        page.wait_for_timeout(300 * len(arrived))
        route.continue_()

    page.route("**/*.js*", late)
    with page.expect_request("**/events", timeout=10_000):
        page.goto("/models")
    assert len(arrived) > 1


@pytest.mark.usefixtures("judged")
def test_a_run_is_watched_paused_and_continued_without_a_reload_or_a_question_by_the_clock(page: Page) -> None:
    start_run(page)
    seen = watched(page)
    expect(page.locator("#chart-loss .uplot")).to_be_visible(timeout=60_000)
    steps = page.locator("#table-loss tbody tr")
    before = steps.count()
    expect(steps.nth(before + 10)).to_be_attached(timeout=30_000)
    assert loads(seen)["document"] == 0, "nothing was loaded anew"
    expect(page.locator("#standings")).to_contain_text(re.compile(r"\d+ of \d+"))
    expect(page.locator("#standings")).to_contain_text(re.compile(r"about \d+ (seconds|minutes?)"), timeout=30_000)
    expect(page.locator("figure.chart .note")).to_have_count(6, timeout=30_000)

    choose_an_evaluation_by_keyboard(page)

    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#run")).to_contain_text("Nothing is lost", timeout=30_000)
    expect(page.locator("#run .flush")).to_contain_text("Paused.", timeout=30_000)
    expect(page.locator("#standings")).to_contain_text("It is paused")
    page.wait_for_timeout(2_000)
    seen.clear()
    page.wait_for_timeout(5_000)
    assert [request.url for request in seen] == [], "where nothing changes, nothing is asked"

    page.get_by_role("button", name="Continue").click()
    page.wait_for_load_state()
    seen.clear()
    expect(page.locator("#run .heading")).to_contain_text(re.compile("Passed|Refused"), timeout=120_000)
    assert loads(seen)["document"] == 0
    page.locator("#table-accuracy summary").click()
    expect(page.locator("#table-accuracy tbody tr").last).to_be_visible()
    page.wait_for_timeout(1_500)
    seen.clear()
    page.wait_for_timeout(4_000)
    assert [request.url for request in seen] == []


@pytest.mark.usefixtures("judged")
def test_where_no_events_come_the_page_asks_by_the_clock(page: Page) -> None:
    def refuse(route: Route) -> None:
        route.abort()

    page.route("**/events", refuse)
    start_run(page)
    seen = watched(page)
    steps = page.locator("#table-loss tbody tr")
    expect(steps.first).to_be_attached(timeout=60_000)
    before = steps.count()
    expect(steps.nth(before + 10)).to_be_attached(timeout=30_000)
    asked = [request for request in seen if re.search(r"/runs/\d+$", request.url)]
    assert len(asked) >= 3
    assert loads(seen)["document"] == 0
    page.get_by_text("Cancel the run…").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#run .heading")).to_contain_text("Cancelled", timeout=60_000)


@pytest.mark.usefixtures("judged")
def test_without_scripts_the_chart_and_its_table_are_there(page: Page, palate: RunningPalate) -> None:
    start_run(page)
    expect(page.locator("#table-loss tbody tr").first).to_be_attached(timeout=60_000)
    browser = page.context.browser
    assert browser is not None
    plain = browser.new_context(
        base_url=palate.address, java_script_enabled=False, storage_state=page.context.storage_state()
    )
    reader = plain.new_page()
    reader.goto(page.url)
    expect(reader.get_by_role("img", name=re.compile("^Loss: "))).to_be_visible()
    reader.locator("#table-loss summary").click()
    expect(reader.locator("#table-loss tbody tr").first).to_be_visible()
    plain.close()
    page.get_by_text("Cancel the run…").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#run .heading")).to_contain_text("Cancelled", timeout=60_000)


@pytest.mark.usefixtures("judged")
def test_a_run_that_goes_wrong_is_warned_of_while_it_trains_and_two_are_compared(page: Page) -> None:
    page.add_init_script(path=AXE)
    start_run(page, epochs=15, learning_rate=0.01, drift_weight=0, likelihood_weight=0, holds_back=True)
    run = page.url.rpartition("/")[2]
    warning = page.locator("#warnings #warning-far")
    expect(warning).to_contain_text("A lower learning rate, fewer epochs or a higher drift weight", timeout=120_000)
    assert page.locator("#progress").count() == 1, "it is told before the run is over"
    expect(page.locator("#run .heading")).to_contain_text(re.compile("Passed|Refused"), timeout=240_000)
    expect(warning).to_be_visible()
    expect(page.locator("#log")).to_contain_text("WARNING It has moved far")
    page.reload()
    expect(page.locator("#chart-kl .uplot")).to_be_visible()
    assert problems(page, LOOKS) == []

    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/models/1/comparison?run={int(run) - 1}&run={run}")
    expect(page.locator("#chart-kl .uplot")).to_be_visible()
    expect(page.locator("#chart-kl .legend li")).to_have_count(2)
    expect(page.locator("#chart-kl details thead th.number")).to_have_count(2)
    expect(page.locator("#not-drawn")).to_contain_text("Likelihood weight, Drift weight")
    expect(page.locator("#chart-loss")).to_have_count(0)
    assert problems(page, LOOKS) == []
