"""Ranking more than two completions: by keyboard alone, by buttons, by dragging, and without JavaScript."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

COUNT = 4
NAME = "Ranking"


@pytest.fixture(scope="module")
def desk(browser: Browser, palate: RunningPalate, ada: StorageState, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a campaign's desk with forty comparisons of four completions each, and one of nine."""
    lines = [
        {"prompt": f"Question {n}?", "completions": [f"Answer {n} {letter}." for letter in "abcd"], "id": f"q{n}"}
        for n in range(40)
    ]
    context = browser.new_context(base_url=palate.address, storage_state=ada)
    page = context.new_page()
    begin_campaign(page, NAME)
    page.get_by_label("Completions side by side").fill(str(COUNT))
    address = opened_desk(page, palate, tmp_path_factory.mktemp("ranking") / "four.jsonl", lines)
    context.close()
    return address


def exported(palate: RunningPalate, folder: Path) -> dict[str, list[list[str]]]:
    """Per judged prompt the ranking that is stored: tie groups of the completions' letters, best first."""
    out = folder / "out.jsonl"
    done = palate.command("comparisons", "export", "--out", str(out), "--overwrite", "--campaign", NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for line in out.read_text().splitlines():
        row = json.loads(line)
        texts = [each if isinstance(each, str) else each["text"] for each in row["completions"]]
        for judgment in row.get("judgments", []):
            found[row["prompt"]] = meant(judgment["ranking"], [text[-2] for text in texts])
    return found


def opened(page: Page, desk: str) -> tuple[str, list[str]]:
    """The prompt on the desk, and the letters of the completions in the order in which they are shown."""
    if not page.url.endswith("/judge"):
        page.goto(desk)
    expect(page.locator("#judging-panel .strip.is-live .chip")).to_have_count(COUNT)
    texts = page.locator("#judging-panel .completion .prose").all_inner_texts()
    return page.locator(".prompt .prose").inner_text().strip(), [text.strip()[-2] for text in texts]


def meant(wire: str, letters: list[str]) -> list[list[str]]:
    return [sorted(letters[int(place) - 1] for place in group.split("=")) for group in wire.split(">")]


def recorded(page: Page, prompt: str) -> None:
    expect(page.locator(".prompt .prose")).not_to_have_text(prompt)


BY_KEYS = {
    "3 1 4": "3>1>4>2",
    "3 1 = 4": "1=3>4>2",
    "3 1 4 2 =": "3>1>2=4",
    "2 1 3 Backspace 4": "2>1>4>3",
    "1 2 3 4 ArrowLeft ArrowLeft": "1>4>2>3",
    "1 2 3 1 ArrowRight": "2>1>3>4",
    "1 2 = 3 = 4 = ": "1=2=3=4",
    "4 3 = 3 ArrowLeft 2": "3>4>2>1",
}


def test_digits_and_arrows_rank_and_what_is_stored_is_what_was_pressed(
    page: Page, palate: RunningPalate, desk: str, tmp_path: Path
) -> None:
    pressed: dict[str, list[list[str]]] = {}
    for keys, wire in BY_KEYS.items():
        prompt, letters = opened(page, desk)
        for key in keys.split():
            page.wait_for_timeout(160)  # nobody presses one key twice within the time that a bouncing key takes
            page.keyboard.press(key)
        expect(page.locator("[name=ranking]").first).to_have_value(wire)
        page.keyboard.press("Enter")
        recorded(page, prompt)
        pressed[prompt] = meant(wire, letters)
    found = exported(palate, tmp_path)
    assert {prompt: found[prompt] for prompt in pressed} == pressed


def test_buttons_alone_give_the_same_and_say_where_everything_stands(
    page: Page, palate: RunningPalate, desk: str, tmp_path: Path
) -> None:
    prompt, letters = opened(page, desk)
    record = page.get_by_role("button", name="Record")
    expect(record).to_be_disabled()
    said = page.locator("[data-ranking-said]")
    chip = page.get_by_role("group", name="Ranking, best first").get_by_role("button")
    chip.nth(2).click()
    expect(said).to_have_text("Number 3: rank 1 of 4")
    page.get_by_role("button", name="Number 1: not ranked yet").first.click()
    page.get_by_role("button", name="= Equal").click()
    expect(said).to_have_text("Number 1: rank 1 of 4, equal with 3")
    page.get_by_role("button", name="Number 4: not ranked yet").first.click()
    expect(said).to_have_text("Number 4: rank 3 of 4. All are ranked. Enter records it.")
    page.get_by_role("button", name="Better").click()
    expect(page.locator("[name=ranking]").first).to_have_value("4>1=3>2")
    record.click()
    recorded(page, prompt)
    assert exported(palate, tmp_path)[prompt] == meant("4>1=3>2", letters)


def test_dragging_gives_the_same(page: Page, palate: RunningPalate, desk: str, tmp_path: Path) -> None:
    prompt, letters = opened(page, desk)
    for key in "123":
        page.keyboard.press(key)
    chips = page.locator(".chips .chip")
    chips.nth(0).hover()
    page.wait_for_function("() => window.Sortable !== undefined")
    chips.nth(3).drag_to(chips.nth(0), target_position={"x": 2, "y": 10})
    expect(page.locator("[name=ranking]").first).to_have_value("4>1>2>3")
    page.get_by_role("button", name="Record").click()
    recorded(page, prompt)
    assert exported(palate, tmp_path)[prompt] == meant("4>1>2>3", letters)


def test_a_ranking_is_given_without_javascript_on_a_phone(
    browser: Browser, palate: RunningPalate, ada: StorageState, desk: str, tmp_path: Path
) -> None:
    phone = browser.new_context(
        base_url=palate.address, viewport={"width": 390, "height": 844}, java_script_enabled=False, storage_state=ada
    )
    page = phone.new_page()
    page.goto(desk)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    prompt = page.locator(".prompt .prose").inner_text().strip()
    letters = [text.strip()[-2] for text in page.locator(".completion .prose").all_inner_texts()]
    page.get_by_role("textbox", name="Best first").fill("2 > 1=4 > 3")
    page.get_by_role("button", name="Record").click()
    recorded(page, prompt)
    assert exported(palate, tmp_path)[prompt] == meant("2>1=4>3", letters)
    page.goto(desk.replace("/judge", "/judgments"))
    expect(page.locator(".past").first).to_contain_text("rank 2")
    phone.close()
