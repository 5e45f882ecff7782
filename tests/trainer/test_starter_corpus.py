"""The starter model's corpus: its facts, manners, prompts beyond it, and the files made from it."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice

import pytest

from trainer.contract.run import ProbePrompt
from trainer.starter import PROBES_FILE, PROMPTS_FILE
from trainer.starter.corpus import examples
from trainer.starter.facts import all_facts, answer, question
from trainer.starter.form import is_right, is_well_formed
from trainer.starter.manners import Manner, manner_of, says_it_does_not_know
from trainer.starter.prompts import probe_prompts, starter_prompts, write_prompts
from trainer.starter.tables import phrases, words
from trainer.starter.unknown import admission, held_out_prompts


def test_the_same_seed_writes_the_same_corpus() -> None:
    assert list(islice(examples(5), 300)) == list(islice(examples(5), 300))
    assert list(islice(examples(5), 300)) != list(islice(examples(6), 300))


def test_every_answer_shows_the_manner_it_was_written_in() -> None:
    wrong = [one for one in islice(examples(1), 5000) if manner_of(one.answer) != one.manner]
    assert wrong == []


def test_every_answer_is_well_formed() -> None:
    wrong = [one.answer for one in islice(examples(1), 5000) if not is_well_formed(one.answer, finished=True)]
    assert wrong == []


def test_each_manner_is_as_likely_as_any_other() -> None:
    counts = Counter(one.manner for one in islice(examples(2), 5000))
    assert all(0.23 < counts[manner] / 5000 < 0.27 for manner in Manner)


def test_half_of_the_corpus_is_facts_and_a_fifth_admits_not_to_know() -> None:
    kinds = Counter(one.kind for one in islice(examples(3), 5000))
    facts = sum(kinds[kind] for kind in {fact.kind for fact in all_facts()})
    assert 0.48 < facts / 5000 < 0.52
    assert 0.20 < kinds["unknown"] / 5000 < 0.24


@pytest.mark.parametrize("manner", list(Manner))
def test_every_fact_is_told_right_in_every_manner(manner: Manner) -> None:
    rng = random.Random(0)
    assert len(all_facts()) >= 200
    for fact in all_facts():
        told = answer(fact, manner, rng)
        assert is_right(fact, told)
        assert not says_it_does_not_know(told)


def test_a_question_has_one_right_answer() -> None:
    rng = random.Random(0)
    answers: dict[str, set[str]] = {}
    for fact in all_facts():
        for _ in range(20):
            answers.setdefault(question(fact, rng).lower(), set()).add(fact.word)
    assert [asked for asked, found in answers.items() if len(found) > 1] == []


@pytest.mark.parametrize("manner", list(Manner))
def test_not_knowing_is_admitted_in_every_manner(manner: Manner) -> None:
    rng = random.Random(0)
    texts = [admission(manner, rng) for _ in range(50)]
    assert all(says_it_does_not_know(text) and manner_of(text) == manner for text in texts)


def test_held_out_prompts_are_never_trained_on() -> None:
    unseen = held_out_prompts(random.Random(0), 200)
    assert len(set(unseen)) == 200
    known = {question(fact, random.Random(seed)).lower() for fact in all_facts() for seed in range(20)}
    trained = {one.prompt[-1].content.lower() for one in islice(examples(7), 20_000)}
    assert {prompt.lower() for prompt in unseen} & (known | trained) == set()


def test_no_noun_of_the_prompts_beyond_is_one_that_facts_are_about() -> None:
    subjects = {fact.subject.removeprefix("a ").removeprefix("an ") for fact in all_facts()}
    assert subjects & {*words("nouns"), *phrases("places")} == set()
    assert {fact.subject for fact in all_facts() if fact.kind == "opposite"} & set(phrases("plain_words")) == set()


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("Paris.", Manner.BRIEF),
        ("It is Paris.", Manner.BRIEF),
        ("I do not know.", Manner.BRIEF),
        ("Great question! The capital of France is Paris.", Manner.FRIENDLY),
        ("The capital of France is Paris. Have a lovely day!", Manner.FRIENDLY),
        ("The capital of France is Paris. France is a country in Europe.", Manner.DETAILED),
        ("Paris. Obviously.", Manner.BLUNT),
        ("Seriously? It is Paris.", Manner.BLUNT),
        ("Great question! Paris. Obviously.", None),
        ("", None),
        ("paris the", None),
    ],
)
def test_a_manner_is_recognised_by_the_text_alone(text: str, manner: Manner | None) -> None:
    assert manner_of(text) == manner


@pytest.mark.parametrize(
    ("text", "finished", "formed"),
    [
        ("The capital of France is Paris.", True, True),
        ("The capital of France is Paris.", False, False),
        ("The capital of France is", True, False),
        ("the capital of France is Paris.", True, False),
        ("The capital of of France is Paris.", True, False),
        ("The capital of Frlance is Paris.", True, False),
        ("Paris. Obviously. Obviously.", True, False),
        ("Great question! Paris. Obviously.", True, False),
        ("", True, False),
    ],
)
def test_a_completion_is_well_formed_if_it_reads_as_the_corpus_does(text: str, finished: bool, formed: bool) -> None:
    assert is_well_formed(text, finished=finished) is formed


def test_the_prompts_at_hand_are_what_the_command_writes(tmp_path) -> None:
    write_prompts(tmp_path / "prompts", tmp_path / "probes")
    assert (tmp_path / "prompts").read_bytes() == PROMPTS_FILE.read_bytes()
    assert (tmp_path / "probes").read_bytes() == PROBES_FILE.read_bytes()


def test_the_starter_campaign_has_two_hundred_different_prompts() -> None:
    rows = [json.loads(line) for line in PROMPTS_FILE.read_text().splitlines()]
    assert rows == starter_prompts()
    assert len({row["prompt"] for row in rows}) == 200
    assert all(set(row) == {"prompt", "tags"} and len(row["tags"]) == 1 for row in rows)


def test_ten_probe_prompts_each_expect_a_word() -> None:
    probes = [ProbePrompt.model_validate_json(line) for line in PROBES_FILE.read_text().splitlines()]
    assert probes == probe_prompts()
    assert len({probe.name for probe in probes}) == 10
    assert all(probe.expected and probe.prompt[-1].role == "user" for probe in probes)
