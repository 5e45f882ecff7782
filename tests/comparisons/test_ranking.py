"""Rankings: what the wire form says, what is refused, and that translation loses nothing."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.comparisons.ranking import (
    Groups,
    all_tied,
    combined,
    format_ranking,
    has_ties,
    parse_ranking,
    to_completions,
    to_positions,
)
from app.errors import Invalid


@st.composite
def rankings(draw: st.DrawFn) -> Groups:
    """A ranking of 2 to 6 positions: a permutation, cut into groups at any places."""
    order = draw(st.permutations(range(1, draw(st.integers(2, 6)) + 1)))
    groups: Groups = [[order[0]]]
    for position in order[1:]:
        if draw(st.booleans()):
            groups.append([position])
        else:
            groups[-1].append(position)
    return [sorted(group) for group in groups]


def test_the_wire_form_lists_tie_groups_best_first() -> None:
    assert parse_ranking("2>1=3", 3) == [[2], [1, 3]]
    assert parse_ranking(" 3 = 1 > 2 ", 3) == [[1, 3], [2]]
    assert format_ranking([[2], [1, 3]]) == "2>1=3"


@pytest.mark.parametrize(
    "text", ["", "1", "1>1", "1>3", "0>1", "1>2>3", "2>", ">1", "1<2", "1,2", "a>b", "1>²", "1>-2", "9" * 5000]
)
def test_a_ranking_that_does_not_name_each_position_once_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_ranking(text, 2)


@given(rankings())
def test_what_is_written_is_read_back(groups: Groups) -> None:
    assert parse_ranking(format_ranking(groups), sum(map(len, groups))) == groups


@given(rankings(), st.data())
def test_whatever_the_shown_order_the_same_completions_win(groups: Groups, data: st.DataObject) -> None:
    """Over all shown orders: what a person saw as better is recorded as better, and translates back."""
    count = sum(map(len, groups))
    ids = data.draw(st.lists(st.integers(1, 10**12), min_size=count, max_size=count, unique=True))
    for shown in permutations(ids):
        ranked = to_completions(groups, shown)
        assert to_positions(ranked, shown) == groups
        place = {completion: level for level, group in enumerate(ranked) for completion in group}
        seen = {position: level for level, group in enumerate(groups) for position in group}
        assert all(place[shown[position - 1]] == seen[position] for position in seen)


def test_all_tied_prefers_none() -> None:
    assert all_tied([9, 4]) == [[4, 9]]
    assert has_ties([[1], [2, 3]])
    assert not has_ties([[2], [1]])


@given(rankings())
def test_one_ranking_combined_is_itself(groups: Groups) -> None:
    assert combined([groups]) == groups


def test_rankings_are_combined_by_the_sum_of_their_ranks_ties_sharing_the_mean_of_theirs() -> None:
    # Ranks from 0: 1 is first, second, and shares the first two places: 0 + 1 + 0.5; 2: 1 + 0 + 0.5; 3: 2 + 2 + 2.
    assert combined([[[1], [2], [3]], [[2], [1], [3]], [[1, 2], [3]]]) == [[1, 2], [3]]
    # 7: 0 + 0 + 1; 9: 1 + 1 + 0.
    assert combined([[[7], [9]], [[7], [9]], [[9], [7]]]) == [[7], [9]]
    # All three share the mean of 0, 1, 2 in the first, so that the second decides.
    assert combined([[[1, 2, 3]], [[3], [1, 2]]]) == [[3], [1, 2]]
