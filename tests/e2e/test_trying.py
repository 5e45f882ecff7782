"""Trying two versions in a real browser: replies appear, a second message goes on, and without scripts it works too."""

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.e2e.conftest import RunningPalate

pytestmark = pytest.mark.e2e


def say(page: Page, message: str) -> None:
    """Write a message and send it."""
    page.get_by_label("Your message").fill(message)
    page.get_by_role("button", name="Send").click()


def test_two_versions_answer_side_by_side_and_the_conversation_goes_on(page: Page) -> None:
    page.goto("/models")
    expect(page.get_by_text("Serving now").first).to_be_visible(timeout=60_000)
    page.goto("/try")
    version = page.get_by_label("Version").input_value()
    page.get_by_label("Beside it").select_option(version)
    page.get_by_text("System prompt and sampling").click()
    page.get_by_label("Temperature").fill("0")
    say(page, "What is the capital of France?")
    replies = page.locator(".reply .prose:not(.is-writing)")
    expect(replies.filter(has_text="Paris")).to_have_count(2, timeout=60_000)
    page.get_by_label("Your message").fill("What is the capital of Japan?")
    page.get_by_label("Your message").press("Enter")
    expect(replies).to_have_count(4, timeout=30_000)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.get_by_text("Add this prompt to a campaign").click()
    page.locator("#keep button").first.click()
    expect(page.get_by_role("heading", name="Prompt")).to_be_visible()
    expect(page.locator(".message.user").last).to_contain_text("Japan")


def test_without_scripts_the_same_form_answers(browser: Browser, palate: RunningPalate, ada: StorageState) -> None:
    context = browser.new_context(base_url=palate.address, storage_state=ada, java_script_enabled=False)
    page = context.new_page()
    page.goto("/try")
    say(page, "What is the capital of France?")
    expect(page.locator(".reply")).to_have_count(1, timeout=30_000)
    expect(page.locator(".reply .prose")).not_to_be_empty()
    context.close()
