"""The whole loop, as its first admin meets it: judge by keyboard, train, and see the model follow."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from trainer.starter.manners import Manner, manner_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(900)]

COMPLETIONS = "#judging-panel .completion .prose"
SHOWN = "#judging-panel .verdicts [name=key]"
"""The submission's key, drawn anew for whatever is shown."""
VERDICTS = 150
"""Judgments that are not ties; fewer would move the toy less clearly."""
LIKING = {Manner.FRIENDLY: 2, Manner.BLUNT: 0}
"""Friendly before brief and detailed, those before blunt."""


def liking(text: str) -> int:
    manner = manner_of(text)
    return 1 if manner is None else LIKING.get(manner, 1)


def shown_texts(page: Page) -> list[str]:
    return page.locator(COMPLETIONS).all_inner_texts()


def press_and_wait(page: Page, key: str) -> None:
    """Press a key and wait until the panel shows another comparison, or another state."""
    page.wait_for_timeout(160)  # the same key within 150 ms counts as a bounce
    before = page.evaluate(f"() => document.querySelector('{SHOWN}')?.value")
    page.keyboard.press(key)
    page.wait_for_function(f"before => document.querySelector('{SHOWN}')?.value !== before", arg=before)


def wait_for_comparison(page: Page) -> list[str]:
    expect(page.locator(COMPLETIONS)).to_have_count(2, timeout=60_000)
    return shown_texts(page)


def judge_by_liking(page: Page, *, verdicts: int) -> list[str]:
    """Judge by keyboard until there are enough verdicts that are not ties; returns every completion seen."""
    seen: list[str] = []
    decided = 0
    while decided < verdicts:
        first, second = wait_for_comparison(page)
        seen += [first, second]
        if liking(first) == liking(second):
            press_and_wait(page, "0")
        else:
            press_and_wait(page, "1" if liking(first) > liking(second) else "2")
            decided += 1
    return seen


def manner_share(texts: list[str], manner: Manner) -> float:
    return sum(manner_of(text) is manner for text in texts) / len(texts)


def test_a_newcomer_judges_by_keyboard_trains_and_sees_the_model_follow(page: Page) -> None:
    page.goto("/")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Campaigns").click()
    page.get_by_role("link", name="First steps").first.click()
    page.wait_for_url(re.compile(r"/campaigns/\d+$"))
    campaign = page.url
    page.goto(f"{campaign}/judge")

    before = judge_by_liking(page, verdicts=VERDICTS)

    first = wait_for_comparison(page)
    press_and_wait(page, "s")
    press_and_wait(page, "u")
    assert wait_for_comparison(page) == first, "undo brings back what was skipped"

    page.goto(campaign)
    started = time.monotonic()
    page.get_by_role("button", name="Train").first.click()
    page.wait_for_url("**/runs/*")
    expect(page.locator("main")).to_contain_text("starter-v1 is deployed.", timeout=240_000)
    seconds = time.monotonic() - started

    page.goto(f"{campaign}/judge")
    wait_for_comparison(page)
    press_and_wait(page, "0")  # the one that was on the screen when the version changed
    after: list[str] = []
    for _ in range(60):
        after += wait_for_comparison(page)
        press_and_wait(page, "0")
    friendly = (manner_share(before, Manner.FRIENDLY), manner_share(after, Manner.FRIENDLY))
    blunt = (manner_share(before, Manner.BLUNT), manner_share(after, Manner.BLUNT))
    print(f"\nfrom Train to serving {seconds:.0f} s; friendly {friendly}, blunt {blunt}")
    assert friendly[1] > friendly[0] + 0.05, "seen: 0.21 to 0.45"
    assert blunt[1] < blunt[0]
    assert seconds < 180
