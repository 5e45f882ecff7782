"""The whole loop, as its first admin meets it: judge by keyboard, train, and see the model follow."""

import os
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.answers import answers_of
from tests.e2e.conftest import RunningPalate
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


def keep_screenshot(page: Page, name: str) -> None:
    """A picture for the README where `make screenshots` asks for one."""
    if folder := os.environ.get("PALATE_SCREENSHOTS"):
        page.mouse.move(0, 0)
        page.screenshot(path=Path(folder) / name)


def manner_share(texts: list[str], manner: Manner) -> float:
    return sum(manner_of(text) is manner for text in texts) / len(texts)


def test_a_newcomer_judges_by_keyboard_trains_and_sees_the_model_follow(page: Page, palate: RunningPalate) -> None:
    page.goto("/")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Campaigns").click()
    page.get_by_role("link", name="First steps").first.click()
    page.wait_for_url(re.compile(r"/campaigns/\d+$"))
    campaign = page.url
    before = answers_of(palate, "starter-v0")
    page.goto(f"{campaign}/judge")
    wait_for_comparison(page)
    keep_screenshot(page, "judging.png")

    shown_before = judge_by_liking(page, verdicts=VERDICTS)

    first = wait_for_comparison(page)
    press_and_wait(page, "s")
    press_and_wait(page, "u")
    assert wait_for_comparison(page) == first, "undo brings back what was skipped"

    page.goto(campaign)
    started = time.monotonic()
    page.get_by_role("button", name="Train").first.click()
    page.wait_for_url("**/runs/*")
    expect(page.locator("#evaluation-steps li").nth(2)).to_be_attached(timeout=180_000)
    keep_screenshot(page, "run-training.png")
    expect(page.locator("main")).to_contain_text("starter-v1 is deployed.", timeout=240_000)
    seconds = time.monotonic() - started
    keep_screenshot(page, "run.png")

    page.goto(f"{campaign}/judge")
    wait_for_comparison(page)
    press_and_wait(page, "0")  # the one that was on the screen when the version changed
    shown_after: list[str] = []
    for _ in range(60):
        shown_after += wait_for_comparison(page)
        press_and_wait(page, "0")
    friendly = (manner_share(shown_before, Manner.FRIENDLY), manner_share(shown_after, Manner.FRIENDLY))
    after = answers_of(palate, "starter-v1")
    print(f"\nfrom Train to serving {seconds:.0f} s; friendly among what was shown {friendly}")
    print(f"before: {before}\nafter:  {after}")
    assert friendly[1] > friendly[0] + 0.05, "the comparisons that come next visibly follow"
    assert len(after.texts) >= 400
    assert after.share(Manner.FRIENDLY) >= before.share(Manner.FRIENDLY) + 0.15
    assert after.share(Manner.BLUNT) <= before.share(Manner.BLUNT) / 2
    assert after.facts_right >= before.facts_right - 0.05
    assert seconds < 180
