"""Judging as annotators meet it: by invitation, on a phone, without JavaScript, and with the network gone."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.conftest import RunningPalate, join

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


def test_a_verdict_that_could_not_be_sent_is_kept_and_sent_once(page: Page, context: BrowserContext) -> None:
    open_desk(page)
    before = int(page.locator(TALLY).inner_text())
    shown = page.locator("#judging-panel .completion .prose").all_inner_texts()
    context.set_offline(True)
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("Not sent")
    assert page.locator("#judging-panel .completion .prose").all_inner_texts() == shown, "the page is kept"
    context.set_offline(False)
    page.wait_for_timeout(200)
    page.keyboard.press("1")
    expect(page.locator(TALLY)).to_have_text(str(before + 1))
    page.reload()
    expect(page.locator(TALLY)).to_have_text(str(before + 1))


def test_a_double_click_judges_once(page: Page) -> None:
    open_desk(page)
    before = int(page.locator(TALLY).inner_text())
    # In one tick, as a double click is: two calls from here could be far enough apart to be two verdicts.
    page.get_by_role("button", name="Second is better").evaluate("button => { button.click(); button.click(); }")
    page.wait_for_timeout(1000)
    expect(page.locator(TALLY)).to_have_text(str(before + 1))
