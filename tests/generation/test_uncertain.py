"""Which samples are shown where a reward model helps to choose."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from app.generation.normalising import text_sha256
from app.generation.uncertain import KEPT_AS_BEFORE, is_kept_as_before, most_uncertain

TEXTS = ["One.", "Two.", "Three.", "Four."]


def test_the_two_whose_rewards_lie_closest_are_shown() -> None:
    assert most_uncertain(TEXTS, [0.0, 2.0, 5.0, 1.5], 2) == [1, 3]
    assert most_uncertain(TEXTS, [0.0, 2.0, 5.0, 1.5], 3) == [0, 1, 3]


def test_samples_that_are_alike_count_once_and_those_without_a_reward_not_at_all() -> None:
    assert most_uncertain(["Yes.", " yes.", "No.", "Maybe."], [1.0, 1.0, 0.0, 9.0], 2) == [0, 2]
    assert most_uncertain(TEXTS, [1.0, None, 8.0, 2.0], 2) == [0, 3]
    assert most_uncertain(TEXTS, [1.0, None, None, None], 2) is None
    assert most_uncertain(["Yes.", " yes.", "", " "], [1.0, 1.0, 1.0, 1.0], 2) is None


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=7), st.integers(2, 4))
def test_no_other_choice_lies_closer_together(rewards: list[float], count: int) -> None:
    texts = [f"text {number}" for number in range(len(rewards))]
    chosen = most_uncertain(texts, rewards, count)
    assert chosen is not None
    assert len(set(chosen)) == count

    def spread(indices: tuple[int, ...]) -> float:
        return max(rewards[index] for index in indices) - min(rewards[index] for index in indices)

    assert spread(tuple(chosen)) == min(map(spread, combinations(range(len(rewards)), count)))


def test_about_one_prompt_in_four_is_left_out_always_the_same_ones() -> None:
    hashes = [text_sha256(f"Question {number}?") for number in range(2000)]
    kept = sum(map(is_kept_as_before, hashes))
    assert abs(kept / 2000 - 1 / KEPT_AS_BEFORE) < 0.05
    assert [is_kept_as_before(each) for each in hashes] == [is_kept_as_before(each) for each in hashes]
