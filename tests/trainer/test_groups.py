"""What a ranking says about pairs of completions, and what is left out of training."""

import pytest
from transformers import PreTrainedTokenizerBase

from tests.factories.serving import byte_tokenizer
from tests.factories.snapshots import Row, ranking_row
from trainer.contract.base import Message
from trainer.groups import PreferencePair, preference_pairs, tokenized_pairs
from trainer.snapshot import Ranking


def ranking(row: Row) -> Ranking:
    """A snapshot's row as the trainer holds it."""
    return Ranking(
        prompt_id=row["prompt_id"],
        prompt=tuple(Message(**turn) for turn in row["prompt"]),
        completion_ids=tuple(row["completion_ids"]),
        completions=tuple(tuple(Message(**turn) for turn in turns) for turns in row["completions"]),
        ranks=tuple(row["ranks"]),
        all_bad=row["all_bad"],
        weight=row["weight"],
        criterion=row["criterion"],
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token per byte."""
    return byte_tokenizer()


def test_a_ranking_of_two_is_one_pair_of_its_own_weight() -> None:
    pairs, dropped = preference_pairs([ranking(ranking_row("q", ["bad", "good"], ranks=[2, 1], weight=0.5))])
    assert [(pair.chosen, pair.rejected, pair.weight) for pair in pairs] == [("good", "bad", 0.5)]
    assert not dropped


def test_a_ranking_of_four_with_a_tie_makes_five_pairs_that_weigh_a_third_each() -> None:
    pairs, dropped = preference_pairs([ranking(ranking_row("q", ["a", "b", "c", "d"], ranks=[2, 1, 2, 3]))])
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {
        ("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d"),
    }  # fmt: skip
    assert [pair.weight for pair in pairs] == pytest.approx([1 / 3] * 5)
    assert dropped == {"tie": 1}


def test_all_bad_alone_makes_no_pair_and_beside_a_ranking_takes_nothing_away() -> None:
    alone = ranking(ranking_row("q", ["a", "b"], ranks=[1, 1], all_bad=True))
    beside = ranking(ranking_row("q", ["a", "b"], ranks=[1, 2], all_bad=True))
    assert preference_pairs([alone]) == ([], {"all_bad": 1})
    pairs, dropped = preference_pairs([beside])
    assert len(pairs) == 1
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
    pairs, dropped = preference_pairs([ranking(row)])
    kept, dropped_too = tokenized_pairs(pairs, strict, max_tokens=64)
    assert kept == []
    assert dropped + dropped_too == {reason: 1}


def test_a_pair_without_any_prompt_token_is_counted_as_empty() -> None:
    bare = byte_tokenizer(template=False)
    pair = PreferencePair("p", (Message(role="user", content=""),), "c", "r", "a", "b", 1.0)
    assert tokenized_pairs([pair], bare, max_tokens=64) == ([], {"empty": 1})


def test_a_pair_that_just_fits_is_kept_with_its_end_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    pair = PreferencePair("p", (Message(role="user", content="q"),), "c", "r", "aaa", "b", 1.0)
    # <|user|> q <|end|> <|assistant|> and then a a a <|end|>
    (kept,), dropped = tokenized_pairs([pair], tokenizer, max_tokens=8)
    assert len(kept.chosen) == 8
    assert kept.chosen.completion[-1] == kept.rejected.completion[-1] == tokenizer.eos_token_id
    assert tokenized_pairs([pair], tokenizer, max_tokens=7) == ([], {"over_long": 1})
    assert not dropped
