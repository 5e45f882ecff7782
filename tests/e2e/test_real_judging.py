"""A hundred real items judged through the browser by keys alone: what is stored, and frozen, is what was pressed."""

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import RunningPalate
from tests.e2e.desks import begin_campaign, opened_desk
from tests.real.converters import Convert, NotConvertible, oasst, pandalm, qa_feedback, rows_of

pytestmark = [pytest.mark.real, pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("e2e")]

NAME = "A hundred real ones"
SOURCES: list[tuple[str, Convert, int]] = [
    ("qa_feedback_four_way_part1.jsonl.gz", qa_feedback, 40),
    ("pandalm_three_annotators_part1.jsonl.gz", pandalm, 40),
    ("oasst_en_100_tree.jsonl.gz", oasst, 20),
]
Groups = list[list[int]]


@dataclass(frozen=True)
class Pressed:
    """What was decided on an item: tie groups of its completions' numbers in the file, best first; None: both bad."""

    groups: Groups | None
    strength: int | None = None


def signature(text: str) -> str:
    """What of a text no rendering changes: its letters and digits."""
    return "".join(each for each in unicodedata.normalize("NFKC", text) if each.isalnum())


def items(folder: Path) -> Iterator[dict[str, Any]]:
    """A hundred comparisons without their judgments, each told apart by its texts."""
    seen: set[str] = set()
    for name, convert, count in SOURCES:
        yield from islice(_fresh(rows_of(folder / "preferences" / name), convert, seen), count)


def _fresh(rows: Iterator[dict[str, Any]], convert: Convert, seen: set[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        try:
            lines = convert(row)
        except NotConvertible:
            continue
        for line in lines:
            texts = [signature(text) for text in texts_of(line)]
            asked = signature(prompt_of(line))
            plain = not re.search(
                r"[`<>\[\]$\\|]|^\s*\d+[.)]", "\n".join([prompt_of(line), *texts_of(line)]), re.MULTILINE
            )
            if plain and all(texts) and len(set(texts)) == len(texts) <= 9 and asked not in seen:
                seen.add(asked)
                yield {name: line[name] for name in ("id", "prompt", "completions", "tags")}


def texts_of(line: dict[str, Any]) -> list[str]:
    """The completions' texts."""
    return [each if isinstance(each, str) else each["text"] for each in line["completions"]]


def prompt_of(line: dict[str, Any]) -> str:
    """All that is said in the prompt."""
    prompt = line["prompt"]
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def keys_for(groups: Groups) -> list[str]:
    """The keys that rank positions so: digits from best to worst, an equals sign after who ties with the one before."""
    keys = []
    for group in groups:
        for number, place in enumerate(group):
            keys += [str(place), "="] if number else [str(place)]
    return [*keys, "Enter"]


def decide(count: int, rng: random.Random) -> tuple[list[str], Groups | None, int | None]:
    """Keys to press, and what they mean in shown positions: tie groups and strength."""
    if rng.random() < 0.08:
        return ["b"], None, None
    if rng.random() < 0.08:
        return ["0"], [list(range(1, count + 1))], None
    if count == 2:
        digit = rng.randrange(1, 9)
        better = 1 if digit <= 4 else 2
        return [str(digit)], [[better], [3 - better]], 5 - digit if digit <= 4 else digit - 4
    order = rng.sample(range(1, count + 1), count)
    groups: Groups = [[order[0]]]
    for place in order[1:]:
        if rng.random() < 0.25:
            groups[-1].append(place)
        else:
            groups.append([place])
    return keys_for(groups), groups, None


def test_a_hundred_real_items_judged_by_keys_are_stored_and_frozen_as_they_were_pressed(
    page: Page, palate: RunningPalate, real_data: Path, tmp_path: Path
) -> None:
    lines = list(items(real_data))
    assert len(lines) == 100
    begin_campaign(page, NAME)
    page.get_by_text("Strength, criteria, ratings").click()
    page.get_by_label("By how much one of two is better").select_option("words")
    desk = opened_desk(page, palate, tmp_path / "items.jsonl", lines)
    pressed = judge_all(page, desk, {signature(prompt_of(line)): line for line in lines})
    assert len(pressed) == 100
    assert stored(palate, tmp_path) == pressed
    assert frozen(palate, {line["id"]: line for line in lines}) == pressed


def judge_all(page: Page, desk: str, lines: dict[str, dict[str, Any]]) -> dict[str, Pressed]:
    """Judge until nothing is left; what was pressed, by item."""
    rng = random.Random(5)
    pressed: dict[str, Pressed] = {}
    page.goto(desk)
    while page.locator("#verdict").count():
        asked = "".join(page.locator(".prompt .prose").all_text_contents())
        line = lines[signature(asked)]
        places = {signature(text): place for place, text in enumerate(texts_of(line), start=1)}
        shown = [places[signature(text)] for text in page.locator(".completion .prose").all_text_contents()]
        keys, groups, strength = decide(len(shown), rng)
        if len(shown) > 2:
            expect(page.locator(".strip.is-live")).to_have_count(1)
        key = page.locator("#verdict [name=key]").input_value()
        for each in keys:
            page.keyboard.press(each)
        page.wait_for_function("(old) => document.querySelector('#verdict [name=key]')?.value !== old", arg=key)
        page.wait_for_timeout(200)  # nobody presses the same key twice sooner, and the page takes it for a bounce
        numbers = groups and [sorted(shown[place - 1] for place in group) for group in groups]
        assert line["id"] not in pressed
        pressed[line["id"]] = Pressed(numbers, strength)
    return pressed


def stored(palate: RunningPalate, folder: Path) -> dict[str, Pressed]:
    """What the export of the campaign says."""
    out = folder / "out.jsonl"
    done = palate.command("comparisons", "export", "--out", str(out), "--campaign", NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for row in map(json.loads, out.read_text().splitlines()):
        (judgment,) = row["judgments"]
        wire = judgment.get("ranking")
        groups = wire and [sorted(int(place) for place in group.split("=")) for group in wire.split(">")]
        assert bool(judgment.get("all_bad")) == (groups is None)
        found[row["id"]] = Pressed(groups, judgment.get("strength"))
    return found


def frozen(palate: RunningPalate, lines: dict[str, dict[str, Any]]) -> dict[str, Pressed]:
    """What the rows of a snapshot of the campaign say, both sides of the split and those of neither."""
    made = palate.command("snapshot", "--campaign", NAME)
    assert made.returncode == 0, made.stdout + made.stderr
    folder = max((palate.data_dir / "snapshots").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime).parent
    by_prompt = {signature(prompt_of(line)): line for line in lines.values()}
    found = {}
    for file in sorted(folder.glob("rankings.*.parquet")):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            line = by_prompt[signature("".join(message["content"] for message in row["prompt"]))]
            places = {signature(text): place for place, text in enumerate(texts_of(line), start=1)}
            numbers = [places[signature(messages[-1]["content"])] for messages in row["completions"]]
            groups = in_groups(numbers, row["ranks"].__getitem__)
            strengths = row["strengths"]
            found[line["id"]] = Pressed(None if row["all_bad"] else groups, strengths[0] if strengths else None)
    return found


def in_groups(numbers: list[int], rank_at: Callable[[int], int]) -> Groups:
    """Tie groups of `numbers` by their ranks."""
    ranks = {number: rank_at(place) for place, number in enumerate(numbers)}
    return [sorted(each for each in ranks if ranks[each] == rank) for rank in sorted(set(ranks.values()))]
