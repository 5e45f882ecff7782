"""What a ranking says about pairs of completions, and what is left out of training."""

import pytest
from transformers import PreTrainedTokenizerBase

from tests.factories.serving import byte_tokenizer
from tests.factories.snapshots import Row, ranking_row
from trainer.anchors import mismatched
from trainer.contract.base import Message
from trainer.groups import Group, preference_groups, preference_pairs
from trainer.packing import Tokens
from trainer.rankings import RankedTexts, Reading, Verdict, ranked_texts
from trainer.snapshot import Ranking


def ranking(row: Row) -> Ranking:
    """A snapshot's row as the trainer holds it."""
    return Ranking(
        prompt_id=row["prompt_id"],
        prompt=tuple(Message(**turn) for turn in row["prompt"]),
        completion_ids=tuple(row["completion_ids"]),
        completions=tuple(tuple(Message(**turn) for turn in turns) for turns in row["completions"]),
        ranks=tuple(row["ranks"]),
        strengths=None if row["strengths"] is None else tuple(row["strengths"]),
        all_bad=row["all_bad"],
        weight=row["weight"],
        criterion=row["criterion"],
        judgments=row["judgments"],
        agreement=row["agreement"],
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token per byte."""
    return byte_tokenizer()


def groups_of(
    *rows: Row, tokenizer: PreTrainedTokenizerBase, max_tokens: int = 64
) -> tuple[list[Group], dict[str, int]]:
    """The groups that rows make, and what was left out."""
    ranked, dropped = ranked_texts(ranking(row) for row in rows)
    groups, dropped_too = preference_groups(ranked, tokenizer, max_tokens=max_tokens)
    return groups, dict(dropped + dropped_too)


def texts_of(groups: list[Group], tokenizer: PreTrainedTokenizerBase) -> set[tuple[str, str]]:
    """The pairs of the groups as texts."""
    return {
        (tokenizer.decode(pair.chosen.completion[:-1]), tokenizer.decode(pair.rejected.completion[:-1]))
        for pair in preference_pairs(groups)
    }


def test_a_ranking_of_two_is_one_pair_of_its_own_weight(tokenizer: PreTrainedTokenizerBase) -> None:
    row = ranking_row("q", ["bad", "good"], ranks=[2, 1], weight=0.5)
    groups, dropped = groups_of(row, tokenizer=tokenizer)
    assert texts_of(groups, tokenizer) == {("good", "bad")}
    (pair,) = preference_pairs(groups)
    assert (pair.chosen_id, pair.rejected_id) == (row["completion_ids"][1], row["completion_ids"][0])
    assert pair.weight == groups[0].weight == 0.5
    assert not dropped


def test_a_ranking_of_four_with_a_tie_makes_five_pairs_that_weigh_a_third_each(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    groups, dropped = groups_of(ranking_row("q", ["a", "b", "c", "d"], ranks=[2, 1, 2, 3]), tokenizer=tokenizer)
    assert texts_of(groups, tokenizer) == {("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d")}
    assert [pair.weight for pair in preference_pairs(groups)] == pytest.approx([1 / 3] * 5)
    assert groups[0].verdicts[0].ranks == (2, 1, 2, 3)
    assert dropped == {"tie": 1}


def test_the_judgments_of_one_comparison_are_one_group(tokenizer: PreTrainedTokenizerBase) -> None:
    row = ranking_row("q", ["a", "b", "c"], ranks=[1, 2, 3], weight=0.5)
    again = {**row, "ranks": [3, 2, 1]}
    other = ranking_row("q", ["a", "b", "d"], ranks=[1, 2, 3], weight=0.5)
    groups, _ = groups_of(row, again, other, tokenizer=tokenizer)
    assert [[verdict.ranks for verdict in group.verdicts] for group in groups] == [[(1, 2, 3), (3, 2, 1)], [(1, 2, 3)]]
    assert [group.weight for group in groups] == [1.0, 0.5]
    assert [len(group.pairs) for group in groups] == [6, 3]


def test_strengths_add_up_along_a_ranking(tokenizer: PreTrainedTokenizerBase) -> None:
    row = {**ranking_row("q", ["a", "b", "c", "d"], ranks=[2, 1, 2, 3]), "strengths": [4, 2]}
    (group,), _ = groups_of(row, tokenizer=tokenizer)
    assert group.verdicts[0].heights == (1, 4, 1, 0)
    assert {(pair.chosen, pair.rejected): pair.strength for pair in group.pairs} == {
        (1, 0): 3, (1, 2): 3, (1, 3): 4, (0, 3): 1, (2, 3): 1,
    }  # fmt: skip
    without, _ = groups_of({**row, "strengths": [4]}, tokenizer=tokenizer)
    assert without[0].verdicts[0].heights == (0, 0, 0, 0)


def test_a_completion_that_cannot_be_used_leaves_a_ranking_of_the_others(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [
        ranking_row("q", ["a", "", "c", "d"], ranks=[3, 1, 2, 4]),
        ranking_row("q", ["a", "b" * 90, "c", "d"], ranks=[3, 1, 2, 4]),
    ]
    for row, reason in zip(rows, ("empty", "over_long"), strict=True):
        (group,), dropped = groups_of(row, tokenizer=tokenizer)
        assert len(group.completions) == 3
        assert group.verdicts[0].ranks == (3, 2, 4)
        assert {pair.weight for pair in group.pairs} == {1 / 2}
        assert dropped == {reason: 3}


def test_all_bad_alone_makes_no_pair_and_beside_a_ranking_takes_nothing_away(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    alone = ranking_row("q", ["a", "b"], ranks=[1, 1], all_bad=True)
    beside = ranking_row("q", ["a", "b"], ranks=[1, 2], all_bad=True)
    assert groups_of(alone, tokenizer=tokenizer) == ([], {"all_bad": 1})
    groups, dropped = groups_of(beside, tokenizer=tokenizer)
    assert len(preference_pairs(groups)) == 1
    assert not dropped


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ranking_row("q", ["a", "b"], ranks=[1, 1]), "tie"),
        (ranking_row("q", ["a", "b"], ranks=[1, 1], all_bad=True), "all_bad"),
        (ranking_row("q", ["same", "same"]), "same_text"),
        (ranking_row("q", ["a", " \n"]), "empty"),
        (ranking_row("q", ["a", "b"], criterion="helpful"), "criterion"),
        (ranking_row("q", ["a" * 90, "b"]), "over_long"),
        (ranking_row("q" * 90, ["a", "b"]), "over_long"),
        (ranking_row([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], ["a", "b"]), "template"),
        ({**ranking_row("q", ["a", "b"]), "completions": [[], [{"role": "user", "content": "b"}]]}, "not_text"),
    ],
)
def test_whatever_is_left_out_is_counted_by_its_reason(
    row: Row, reason: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    strict = byte_tokenizer()
    strict.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + str(
        tokenizer.chat_template
    )
    assert groups_of(row, tokenizer=strict) == ([], {reason: 1})


def two_texts(prompt: str, first: str, second: str) -> RankedTexts:
    """Two texts of which the first is better."""
    verdict = Verdict((1, 2), (0, 0), 1.0)
    return RankedTexts("p", (Message(role="user", content=prompt),), ("c", "r"), (first, second), verdict)


def test_a_pair_without_any_prompt_token_is_counted_as_empty() -> None:
    bare = byte_tokenizer(template=False)
    assert preference_groups([two_texts("", "a", "b")], bare, max_tokens=64) == ([], {"empty": 1})


def test_a_pair_that_just_fits_is_kept_with_its_end_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    # <|user|> q <|end|> <|assistant|> and then a a a <|end|>
    groups, dropped = preference_groups([two_texts("q", "aaa", "b")], tokenizer, max_tokens=8)
    (pair,) = preference_pairs(groups)
    assert len(pair.chosen) == 8
    assert pair.chosen.completion[-1] == pair.rejected.completion[-1] == tokenizer.eos_token_id
    assert preference_groups([two_texts("q", "aaa", "b")], tokenizer, max_tokens=7) == ([], {"over_long": 1})
    assert not dropped


def verdicts_of(*rows: Row, reading: Reading) -> tuple[list[tuple[float, float]], dict[str, int]]:
    """Weight and doubt of each verdict, and what was left out."""
    ranked, dropped = ranked_texts((ranking(row) for row in rows), reading)
    return [(each.verdict.weight, each.verdict.doubt) for each in ranked], dict(+dropped)


def test_criteria_count_by_the_weight_that_they_are_given() -> None:
    rows = [
        ranking_row("q", ["a", "b"], weight=0.5),
        ranking_row("q", ["a", "b"], weight=0.5, criterion="honest"),
        ranking_row("q", ["a", "b"], ranks=[2, 1], weight=0.5, criterion="helpful"),
    ]
    assert verdicts_of(*rows, reading=Reading()) == ([(0.5, 0)], {"criterion": 2})
    by_criteria = Reading(overall_weight=0, criteria_weights={"honest": 2.0, "unknown": 1.0})
    assert verdicts_of(*rows, reading=by_criteria) == ([(1.0, 0)], {"overall": 1, "criterion": 1})


def test_a_verdict_that_others_contradict_counts_less_or_is_doubted() -> None:
    def judged(agreement: float | None, judgments: int) -> Row:
        return {**ranking_row("q", ["a", "b"]), "agreement": agreement, "judgments": judgments}

    # Alone; two of three say the same (this one, and half of the two others); one against one; one against two.
    rows = [judged(None, 1), judged(0.5, 3), judged(0.0, 2), judged(0.0, 3)]
    assert verdicts_of(*rows, reading=Reading())[0] == [(1, 0)] * 4
    weighed, dropped = verdicts_of(*rows, reading=Reading(reliability="weight"))
    assert weighed == [(1, 0), (pytest.approx(1 / 3), 0)]
    assert dropped == {"disagreement": 2}
    doubted, dropped = verdicts_of(*rows, reading=Reading(reliability="smoothing"))
    assert doubted == [(1, 0), (1, pytest.approx(1 / 3))]
    assert dropped == {"disagreement": 2}


def test_all_bad_alone_is_kept_for_who_learns_from_completions_by_themselves(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    row = ranking_row("q", ["a", " ", "long one"], ranks=[1, 1, 1], all_bad=True)
    ranked, dropped = ranked_texts([ranking(row)], Reading(keeps_all_bad=True))
    assert [each.texts for each in ranked] == [("a", "long one")]
    assert dict(dropped) == {"empty": 1}
    (group,), dropped = preference_groups(ranked, tokenizer, max_tokens=64)
    assert len(group.completions) == 2
    assert not group.pairs
    assert not dropped
    (short,), dropped = preference_groups(ranked, tokenizer, max_tokens=len(group.prompt) + 2)
    assert len(short.completions) == 1
    assert dropped == {"over_long": 1}


def test_a_mismatched_completion_is_of_another_prompt_and_none_where_there_is_no_other() -> None:
    def group(prompt: int, number: int) -> Group:
        completions = ((100 + number,), (200 + number,))
        return Group(f"p{prompt}", (prompt,), ("c", "r"), completions, (Verdict((1, 2), (0, 0), 1.0),))

    groups = [group(1, 0), group(1, 1), group(2, 2), group(1, 3), group(1, 4)]
    found = mismatched(groups, max_tokens=8)
    assert found == [
        Tokens((1,), (102,)), Tokens((1,), (102,)), Tokens((2,), (103,)), Tokens((1,), (102,)), Tokens((1,), (102,)),
    ]  # fmt: skip
    assert mismatched(groups[:2], max_tokens=8) == [None, None]
    assert mismatched(groups[:1], max_tokens=8) == [None]
    assert mismatched(groups, max_tokens=1) == [None] * 5
