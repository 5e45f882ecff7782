"""What is asked beside the verdict, answered by keyboard alone, and carried through history, export and snapshot."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("e2e")]

NAME = "Answers"


def set_up(page: Page, palate: RunningPalate, folder: Path) -> str:
    """A campaign that asks for everything, with three pairs; the address of its desk."""
    lines = [{"prompt": f"Pair {n}?", "completions": [f"Left {n}.", f"Right {n}."]} for n in range(3)]
    begin_campaign(page, NAME)
    page.get_by_text("Strength, criteria, ratings").click()
    page.get_by_label("By how much one of two is better").select_option("words")
    page.get_by_label("Criteria, one per line").fill("helpful: does what was asked\nhonest\nhonest")
    page.get_by_label("Rating of each completion").fill("5")
    page.get_by_label("Flags for a completion").fill("unsafe\ncut off")
    page.get_by_label("Ask how sure").check()
    page.get_by_label("A reason in words").select_option("optional")
    page.get_by_role("button", name="Create the campaign").click()
    expect(page.locator("main")).to_contain_text("Line 3: “honest” is there twice.")
    page.get_by_label("Criteria, one per line").fill("helpful: does what was asked\nhonest")
    return opened_desk(page, palate, folder / "pairs.jsonl", lines)


def test_criteria_ratings_confidence_reason_and_strength_by_keyboard_alone(
    page: Page, palate: RunningPalate, tmp_path: Path
) -> None:
    desk = set_up(page, palate, tmp_path)
    page.goto(desk)
    expect(page.locator(".beside")).to_be_visible()
    prompt = page.locator(".prompt .prose").inner_text().strip()
    shown = [text.strip() for text in page.locator(".completion .prose").all_inner_texts()]
    page.keyboard.press("6")
    assert page.locator(".tally strong").inner_text() == "0", "the criteria come first; the browser says which lacks"
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    for key in ("2", "0", "4", "5", "3"):
        page.keyboard.press(key)
    expect(page.locator("#rationale")).to_be_focused()
    page.keyboard.type("Second: it is to the point.")
    page.keyboard.press("Escape")
    page.wait_for_timeout(200)
    page.keyboard.press("6")
    expect(page.locator(".tally strong")).to_have_text("1")
    page.goto(desk.replace("/judge", "/judgments"))
    for said in ("slightly better", "helpful: second", "honest: equal", "rated 4", "rated 5", "it is to the point"):
        expect(page.locator(".past")).to_contain_text(said)
    out = tmp_path / "out.jsonl"
    assert palate.command("comparisons", "export", "--out", str(out), "--campaign", NAME).returncode == 0
    (row,) = [each for line in out.read_text().splitlines() if (each := json.loads(line))["prompt"] == prompt]
    texts = [each if isinstance(each, str) else each["text"] for each in row["completions"]]
    first, second = (str(texts.index(text) + 1) for text in shown)
    (judgment,) = row["judgments"]
    assert judgment["ranking"] == f"{second}>{first}"
    assert judgment["strength"] == 2
    assert judgment["criteria"] == {"helpful": f"{second}>{first}", "honest": "1=2"}
    assert judgment["ratings"] == {first: 4, second: 5}
    assert (judgment["confidence"], judgment["rationale"]) == (3, "Second: it is to the point.")


def test_criteria_in_the_verdicts_place_by_keyboard_with_reasons_at_hand(
    page: Page, palate: RunningPalate, tmp_path: Path
) -> None:
    lines = [
        {"prompt": "Two?", "completions": ["One way.", "Another way."]},
        {"prompt": "Three?", "completions": ["One way.", "Another way.", "A third way."]},
    ]
    begin_campaign(page, "Criteria alone")
    page.get_by_text("Strength, criteria, ratings").click()
    page.get_by_label("Criteria alone").check()
    page.get_by_role("button", name="Preview as annotators see it").click()
    expect(page.locator("#question-preview")).to_contain_text("there must be criteria")
    page.keyboard.press("Escape")
    page.get_by_label("Criteria, one per line").fill("helpful\nhonest")
    page.get_by_label("A reason in words").select_option("required")
    page.get_by_label("Reasons at hand").fill("Shorter\nMore accurate")
    page.get_by_role("button", name="Preview as annotators see it").click()
    expect(page.locator("#question-preview .beside")).to_contain_text("More accurate")
    page.keyboard.press("Escape")
    desk = opened_desk(page, palate, tmp_path / "mixed.jsonl", lines)
    page.goto(desk)
    for judged in (1, 2):
        expect(page.locator("#judging-heading")).to_have_text("How do they compare?")
        if page.locator(".completion").count() == 2:
            for key in "20":
                page.keyboard.press(key)
        else:
            page.keyboard.press("c")
            page.keyboard.type("213")
            page.keyboard.press("Tab")
            page.keyboard.type("2>1=3")
            page.keyboard.press("Tab")
        expect(page.locator("#rationale")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#rationale")).to_have_value("More accurate")
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)
        page.keyboard.press("Enter")
        expect(page.locator(".tally strong")).to_have_text(str(judged))
    page.goto(f"{desk.removesuffix('/judge')}/judgments")
    for said in ("helpful: second", "honest: equal", "helpful: 2>1>3", "honest: 2>1=3", "More accurate"):
        expect(page.locator("main")).to_contain_text(said)
    out = tmp_path / "out.jsonl"
    assert palate.command("comparisons", "export", "--out", str(out), "--campaign", "Criteria alone").returncode == 0
    rows = {row["prompt"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert rows["Two?"]["judgments"][0]["ranking"].count(">") == 1
    assert set(rows["Three?"]["judgments"][0]["criteria"]) == {"helpful", "honest"}


def test_the_words_in_which_two_differ_are_marked_and_stay_marked_for_the_next_pair(
    page: Page, palate: RunningPalate, tmp_path: Path
) -> None:
    lines = [
        {"prompt": "Rain?", "completions": ["Rain is **wet** water.", "Rain is warm, wet water."]},
        {"prompt": "雨は?", "completions": ["雨は水です。", "雨は氷です。"]},
    ]
    begin_campaign(page, "Alike")
    page.goto(opened_desk(page, palate, tmp_path / "alike.jsonl", lines))
    expected = {"Rain?": ["warm", ","], "雨は?": ["氷", "水"]}
    for pressed in (True, False):
        prompt = page.locator(".prompt .prose").inner_text().strip()
        if pressed:
            page.keyboard.press("d")
            expect(page.locator("#judging-said")).to_have_text(
                f"{len(expected[prompt])} words differ; they are marked."
            )
        marked = "[...(CSS.highlights.get('differs') ?? [])].map((range) => range.toString()).sort()"
        page.wait_for_function(
            f"() => JSON.stringify({marked}) === JSON.stringify({json.dumps(sorted(expected[prompt]))})"
        )
        if pressed:
            page.keyboard.press("1")
            expect(page.locator(".prompt .prose")).not_to_have_text(prompt)
    page.keyboard.press("d")
    page.wait_for_function("() => !CSS.highlights.has('differs')")
