"""Which version a roll-back goes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.deployments.rollback import version_before


@pytest.mark.parametrize(
    ("served", "before"),
    [
        ([], None),
        ([0], None),
        ([0, 1], 0),
        ([0, 1, 2], 1),
        ([0, 1, 2, 1], 0),  # back from 2 to 1: going back again leads to 0, not forth to 2
        ([0, 1, 0], None),
        ([0, 1, 0, 2], 0),
        ([0, 0], None),
    ],
)
def test_a_roll_back_undoes_the_last_step_forward(served: list[int], before: int | None) -> None:
    assert version_before(served) == before


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_rolling_back_again_and_again_ends_where_everything_began(served: list[int]) -> None:
    history = list(served)
    while (before := version_before(history)) is not None:
        assert before != history[-1]
        history.append(before)
        assert len(history) < 100
    assert history[-1] == served[0]
