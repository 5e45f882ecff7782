"""Near-duplicates among prompts, and the sides that they take."""

import random
from itertools import pairwise

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.campaigns.models import Campaign
from app.generation.models import Prompt, Split
from app.generation.near_duplicates import ALIKE, bands, jaccard, shingles
from app.generation.normalising import split_of
from app.generation.prompt_lines import prompt_draft
from app.generation.service.prompts import insert_prompts
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign

LONG = (
    "Describe, step by step and for somebody who has never done it, how to repair a bicycle tyre on the road with "
    "nothing but two levers, a patch, some glue and a small pump, and say what most people do wrong"
)
CHINESE = "请用简单的语言解释什么是光合作用，以及它为什么对地球上的生命非常重要"


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def likeness(one: str, other: str) -> float:
    return jaccard(shingles(user(one)), shingles(user(other)))


def test_similarity_is_the_share_of_common_runs_of_three_words() -> None:
    # Runs, the role counted as a word: user a b, a b c, b c d | user a b, a b c, b c e. Two of four are common.
    assert likeness("a b c d", "a b c e") == 2 / 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is the capital of  France"),
        (LONG, LONG + "!"),
        (LONG, LONG.replace("a small pump", "a little pump")),
        (CHINESE, CHINESE.replace("，", ",") + "。"),
    ],
)
def test_these_are_nearly_the_same(one: str, other: str) -> None:
    assert likeness(one, other) >= ALIKE
    assert set(bands(shingles(user(one)))) & set(bands(shingles(user(other))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "What is 2+3?"),
        ("What is 2+2?", "What is 2-2?"),
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("Hello", "Goodbye"),
        ("请解释什么是光合作用", "请解释什么是呼吸作用"),
    ],
)
def test_questions_of_one_pattern_stay_apart(one: str, other: str) -> None:
    assert likeness(one, other) < ALIKE


def test_a_shared_system_message_makes_nothing_alike() -> None:
    system = {"role": "system", "content": LONG}
    assert jaccard(shingles([system, *user("What is rain?")]), shingles([system, *user("Who was Ada?")])) < ALIKE


def test_who_says_a_word_counts() -> None:
    reply = {"role": "assistant", "content": "Yes."}
    assert shingles([*user("Yes."), reply, *user("Go on.")]) != shingles([reply, *user("Yes."), *user("Go on.")])


def test_bands_are_what_they_were_when_they_were_stored() -> None:
    assert bands(shingles(user(LONG)))[:2] == [3785623048767355821, 7874438357505887965]


def test_bands_find_what_is_alike_and_little_else() -> None:
    rng = random.Random(1)
    words = [f"w{number}" for number in range(5000)]
    found, pairs, strangers = 0, 400, []
    for _ in range(pairs):
        base = rng.choices(words, k=60)
        changed = base.copy()
        changed[rng.randrange(5, 55)] = "changed"
        one, other = shingles(user(" ".join(base))), shingles(user(" ".join(changed)))
        found += bool(set(bands(one)) & set(bands(other)))
        strangers.append(set(bands(one)))
    assert found >= 0.98 * pairs, "one word of sixty: a similarity of 0.9"
    assert not any(one & other for one, other in pairwise(strangers))


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session)


def add(session: Session, campaign: Campaign, *contents: str) -> list[Prompt]:
    drafts = [prompt_draft(user(content)) for content in contents]
    insert_prompts(session, drafts, campaign_id=campaign.id, import_id=None, now=NOW)
    found = {
        prompt.text_sha256: prompt
        for prompt in session.scalars(select(Prompt).where(Prompt.campaign_id == campaign.id))
    }
    return [found[draft.text_sha256] for draft in drafts]


def on_side(split: Split, *, like: str = LONG) -> str:
    """A near-duplicate of a text whose own hash would put it on this side."""
    for number in range(1000):
        text = f"{like} in {number}"
        if split_of(prompt_draft(user(text)).text_sha256) == split:
            return text
    raise AssertionError


@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize(("first", "second"), [(Split.TRAIN, Split.EVAL), (Split.EVAL, Split.TRAIN)])
def test_a_near_duplicate_takes_the_side_of_the_one_before(
    session: Session, campaign: Campaign, first: Split, second: Split, at_once: bool
) -> None:
    texts = [on_side(first), on_side(second)]
    if at_once:
        one, other = add(session, campaign, *texts)
    else:
        (one,), (other,) = add(session, campaign, texts[0]), add(session, campaign, texts[1])
    assert (one.split, one.near_sha256) == (first, None)
    assert (other.split, other.near_sha256) == (first, one.text_sha256)


def test_campaigns_share_their_sides(session: Session, campaign: Campaign) -> None:
    (one,) = add(session, campaign, on_side(Split.EVAL))
    (other,) = add(session, make_campaign(session), on_side(Split.TRAIN))
    assert (other.split, other.near_sha256) == (Split.EVAL, one.text_sha256)


def test_one_that_bridges_both_sides_goes_to_neither(session: Session, campaign: Campaign) -> None:
    middle = " ".join(f"word{number}" for number in range(80))
    left, right = middle.replace("word10 ", "ten eleven twelve "), middle.replace("word70 ", "seventy one two ")
    one, other = add(session, campaign, left, right)
    one.split, other.split = Split.TRAIN, Split.EVAL
    session.flush()
    (bridge,) = add(session, campaign, middle)
    assert bridge.split is None
    assert (one.split, other.split) == (Split.TRAIN, Split.EVAL), "the others stay where they are"


def test_many_that_are_alike_are_remembered_by_a_few(session: Session, campaign: Campaign) -> None:
    prompts = add(session, campaign, *(f"{LONG} in {number}" for number in range(60)))
    assert {prompt.split for prompt in prompts} == {prompts[0].split}
    (late,) = add(session, campaign, f"{LONG} in the end")
    assert late.split == prompts[0].split


def test_the_page_says_whose_side_a_prompt_took(session: Session, campaign: Campaign, signed_in: SignedIn) -> None:
    one, other = add(session, campaign, LONG, LONG + " today")
    page = signed_in(make_user(session, Role.ADMIN)).get(f"/campaigns/{campaign.id}/prompts/{other.id}").text
    assert "nearly the same as" in page
    assert f"/campaigns/{campaign.id}/prompts/{one.id}" in page
