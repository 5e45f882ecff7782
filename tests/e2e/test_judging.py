"""Judging as annotators meet it: by invitation, on a phone, without JavaScript, and with the network gone."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.e2e.conftest import RunningPalate, armed, join
from trainer.contract.steps import Step

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

TALLY = ".tally strong"


def open_desk(page: Page) -> None:
    """Open the judging page and wait until the model has written something to judge."""
    page.goto("/campaigns/1/judge")
    expect(page.locator("#judging-panel .completion")).to_have_count(2, timeout=60_000)


def invitation(page: Page, *, email: str) -> str:
    """As a manager, invite somebody to judge in the starter campaign; the link to pass on."""
    page.goto("/campaigns/1/people")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Judges comparisons").check()
    page.get_by_role("button", name="Invite by link").click()
    return page.get_by_label(re.compile("Copy it now")).input_value()


def test_somebody_invited_judges_on_a_phone_without_javascript(
    page: Page, browser: Browser, palate: RunningPalate
) -> None:
    open_desk(page)
    link = invitation(page, email="grace@example.org")
    phone = browser.new_context(
        base_url=palate.address, viewport={"width": 390, "height": 844}, java_script_enabled=False
    )
    page = phone.new_page()
    join(page, link, name="Grace")
    page.goto("/campaigns/1/judge")
    expect(page.locator("#judging-panel .completion")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out sideways"
    page.get_by_role("button", name="First is better").click()
    expect(page.locator(TALLY)).to_have_text("1")
    page.get_by_role("button", name="Skip").click()
    page.get_by_role("button", name="Tie").click()
    expect(page.locator(TALLY)).to_have_text("2")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(TALLY)).to_have_text("1")
    page.get_by_role("link", name="History").click()
    expect(page.locator("main")).to_contain_text("First steps")
    phone.close()


def judged_today(page: Page) -> int:
    return int(page.locator(TALLY).inner_text())


def test_sheets_stay_from_one_comparison_to_the_next_and_reading_does_not_judge(page: Page) -> None:
    open_desk(page)
    before = judged_today(page)
    page.keyboard.press("1")
    expect(page.locator(TALLY)).to_have_text(str(before + 1))
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("2")
    page.wait_for_timeout(300)
    assert judged_today(page) == before + 1, "whoever reads does not judge"
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Something wrong here?").click()
    page.get_by_label("Reason").fill("It makes")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Something wrong here?").click()
    page.get_by_label("Reason").fill("It makes no sense")
    shown = page.locator("#verdict").get_attribute("hx-post") or ""
    page.get_by_role("button", name="Go on without judging").click()
    expect(page.locator("#verdict")).not_to_have_attribute("hx-post", shown)
    expect(page.locator("#skip-reason")).to_be_hidden()
    expect(page.get_by_label("Reason")).to_have_value("")


def test_a_verdict_that_could_not_be_sent_waits_and_is_sent_by_itself(page: Page, context: BrowserContext) -> None:
    open_desk(page)
    before = judged_today(page)
    shown = page.locator("#judging-panel .completion .prose").all_inner_texts()
    context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("kept on this device")
    assert page.locator("#judging-panel .completion .prose").all_inner_texts() == shown, "the page is kept"
    page.wait_for_timeout(200)
    page.keyboard.press("2")
    page.wait_for_timeout(60_000)
    expect(page.get_by_role("alert")).to_be_visible()
    context.set_offline(False)
    expect(page.locator(TALLY)).to_have_text(str(before + 1), timeout=30_000)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.reload()
    expect(page.locator(TALLY)).to_have_text(str(before + 1))


def test_a_verdict_whose_answer_was_lost_is_recorded_once(page: Page) -> None:
    lost: list[int] = []

    def lose_first_answer(route: Route) -> None:
        answer = route.fetch()
        lost.append(answer.status)
        route.abort() if len(lost) == 1 else route.fulfill(response=answer)

    # Before the page is there: a page that is learns of it a moment later, and its next request may get past.
    page.route("**/judgment", lose_first_answer)
    open_desk(page)
    before = judged_today(page)
    page.keyboard.press("1")
    expect(page.locator(TALLY)).to_have_text(str(before + 1), timeout=30_000)
    assert lost == [200, 200], "recorded, and asked again with the same key"
    page.unroute("**/judgment")
    page.reload()
    expect(page.locator(TALLY)).to_have_text(str(before + 1))


@pytest.mark.parametrize("step", [Step.JUDGMENT_RECORDING, Step.REQUEST_COMMITTED])
def test_a_server_killed_between_submit_and_answer_loses_nothing(page: Page, palate: RunningPalate, step: Step) -> None:
    open_desk(page)
    before = judged_today(page)
    plug = armed(palate.data_dir) / step
    plug.touch()
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_contain_text("kept on this device", timeout=20_000)
    assert not plug.exists(), "the server was killed"
    expect(page.locator(TALLY)).to_have_text(str(before + 1), timeout=30_000)
    page.reload()
    expect(page.locator(TALLY)).to_have_text(str(before + 1))


def test_a_skip_that_could_not_be_sent_is_sent_by_itself(page: Page, context: BrowserContext) -> None:
    open_desk(page)
    shown = page.locator("#judging-panel .completion .prose").all_inner_texts()
    context.set_offline(True)
    page.keyboard.press("s")
    expect(page.get_by_role("alert")).to_contain_text("kept on this device")
    context.set_offline(False)
    expect(page.get_by_role("alert")).to_be_hidden(timeout=30_000)
    expect(page.locator("#judging-panel .completion .prose")).not_to_have_text(shown)
    page.goto("/campaigns/1/judgments")
    expect(page.locator(".past").first.locator(".badge").first).to_have_text("Skipped")


def test_two_tabs_show_the_same_comparison_and_the_later_verdict_stands(page: Page, context: BrowserContext) -> None:
    open_desk(page)
    before = judged_today(page)
    other = context.new_page()
    open_desk(other)
    texts = [tab.locator("#judging-panel .completion .prose").all_inner_texts() for tab in (page, other)]
    assert texts[0] == texts[1], "one open comparison per person, in whichever tab"
    page.keyboard.press("1")
    expect(page.locator(TALLY)).to_have_text(str(before + 1))
    other.keyboard.press("2")
    expect(other.locator("#judging-panel .completion .prose")).not_to_have_text(texts[0])
    for tab in (page, other):
        tab.reload()
        expect(tab.locator(TALLY)).to_have_text(str(before + 1))
    other.goto("/campaigns/1/judgments")
    expect(other.locator(".past").first.locator(".is-best .prose")).to_have_text(texts[0][1])


def test_a_reload_before_the_answer_loses_nothing(page: Page) -> None:
    page.route("**/judgment", lambda route: None)  # never reaches the server
    open_desk(page)
    before = judged_today(page)
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    page.unroute("**/judgment")
    page.reload()
    expect(page.locator(TALLY)).to_have_text(str(before + 1), timeout=30_000)


def sign_in(page: Page, email: str) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Sign in").click()


def test_a_verdict_waits_for_its_own_person_to_sign_in_again(
    page: Page, browser: Browser, palate: RunningPalate
) -> None:
    open_desk(page)
    links = [invitation(page, email=f"{name}@example.org") for name in ("mary", "katherine")]
    shared = browser.new_context(base_url=palate.address)
    at_desk = shared.new_page()
    join(at_desk, links[0], name="Mary")
    open_desk(at_desk)
    shared.clear_cookies()
    at_desk.keyboard.press("1")
    expect(at_desk.get_by_role("button", name="Sign in")).to_be_visible()
    join(at_desk, links[1], name="Katherine")
    open_desk(at_desk)
    at_desk.wait_for_timeout(1500)
    assert judged_today(at_desk) == 0, "not sent in another's name"
    expect(at_desk.get_by_role("alert")).to_be_hidden()
    shared.clear_cookies()
    at_desk.goto("/campaigns/1/judge")
    sign_in(at_desk, "mary@example.org")
    expect(at_desk.locator(TALLY)).to_have_text("1", timeout=30_000)
    shared.close()


def test_a_double_click_judges_once(page: Page) -> None:
    open_desk(page)
    before = int(page.locator(TALLY).inner_text())
    # In one tick, as a double click is: two calls from here could be far enough apart to be two verdicts.
    page.get_by_role("button", name="Second is better").evaluate("button => { button.click(); button.click(); }")
    page.wait_for_timeout(1000)
    expect(page.locator(TALLY)).to_have_text(str(before + 1))
