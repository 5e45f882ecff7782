"""Which samples are shown: distinct after normalisation, and of those the ones that differ most."""

from hypothesis import given
from hypothesis import strategies as st

from app.generation.distinct import most_distinct
from app.generation.normalising import normalised

texts = st.lists(st.text(alphabet="ab \n.", max_size=8), max_size=7)


def test_of_four_samples_the_two_that_differ_most_are_shown() -> None:
    samples = ["The sky is blue.", "The sky is blue!", "Ask someone else.", "The sky is so blue."]
    assert most_distinct(samples, 2) == [0, 2]


def test_a_difference_in_order_alone_is_less_than_one_in_words() -> None:
    assert most_distinct(["dogs chase cats", "cats chase dogs", "fish swim far"], 2) == [0, 2]


def test_samples_alike_after_normalisation_count_once() -> None:
    assert most_distinct(["Yes.", " yes. ", "YES."], 2) is None
    assert most_distinct(["Yes.", " yes. ", "No."], 2) == [0, 2]


def test_a_blank_sample_is_nobodys_answer() -> None:
    assert most_distinct(["", " \n", "Yes."], 2) is None


def test_three_are_taken_far_from_each_other() -> None:
    samples = ["a b c d", "a b c e", "v w x y", "k l m n"]
    assert most_distinct(samples, 3) == [0, 2, 3]


@given(texts, st.integers(1, 4))
def test_those_chosen_are_distinct_and_enough_or_none_are(samples: list[str], count: int) -> None:
    kinds = {normalised(text) for text in samples} - {""}
    chosen = most_distinct(samples, count)
    if len(kinds) < count:
        assert chosen is None
    else:
        assert chosen is not None
        assert len({normalised(samples[index]) for index in chosen}) == count == len(chosen)
        assert chosen == most_distinct(samples, count)
