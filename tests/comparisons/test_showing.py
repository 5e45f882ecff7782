"""The shown order is balanced over slots and over comparisons, and the same whenever it is asked for."""

from collections import Counter
from itertools import pairwise

import pytest

from app.comparisons.showing import shown_order


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_slots_of_a_comparison_show_each_completion_in_each_place(count: int) -> None:
    ids = [100 + each for each in range(count)]
    orders = [shown_order(ids, comparison_id=77, slot=slot) for slot in range(1, count + 1)]
    for place in range(count):
        assert sorted(order[place] for order in orders) == ids


@pytest.mark.parametrize("count", [2, 3])
def test_in_every_block_of_comparisons_each_completion_is_first_equally_often(count: int) -> None:
    for block in range(50):
        ids = range(2 * count * block, 2 * count * (block + 1))
        firsts = Counter(shown_order(range(count), comparison_id=each, slot=1)[0] for each in ids)
        assert set(firsts.values()) == {2}


def test_the_next_order_cannot_be_foreseen_from_the_last() -> None:
    firsts = [shown_order([0, 1], comparison_id=each, slot=1)[0] for each in range(2000)]
    alternations = sum(one != other for one, other in pairwise(firsts))
    # Within a block of four the chance of a change is 2/3, between blocks 1/2: 0.625 on average.
    assert 0.57 < alternations / 1999 < 0.68


def test_the_order_is_a_pure_function_of_comparison_and_slot() -> None:
    assert shown_order([5, 6, 7], comparison_id=9, slot=2) == shown_order([5, 6, 7], comparison_id=9, slot=2)
    assert all(sorted(shown_order([5, 6, 7], comparison_id=9, slot=slot)) == [5, 6, 7] for slot in range(1, 20))
