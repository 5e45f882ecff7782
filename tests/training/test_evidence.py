"""Exact tests against published tables and brute force; intervals against what must hold of them."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.evidence import all_alike, binomial_tail, paired_interval, sign_test, two_sided_p

# Cumulative binomial probabilities P(X <= k) for n = 10 and p = 0.5, to four places, as in any statistical table.
TABLE_OF_TEN = [0.0010, 0.0107, 0.0547, 0.1719, 0.3770, 0.6230, 0.8281, 0.9453, 0.9893, 0.9990, 1.0000]
# The same for n = 20, the lower half.
TABLE_OF_TWENTY = [0.0000, 0.0000, 0.0002, 0.0013, 0.0059, 0.0207, 0.0577, 0.1316, 0.2517, 0.4119, 0.5881]


@pytest.mark.parametrize(("trials", "table"), [(10, TABLE_OF_TEN), (20, TABLE_OF_TWENTY)])
def test_the_binomial_tail_agrees_with_the_published_tables(trials: int, table: list[float]) -> None:
    for at_most, share in enumerate(table):
        assert 1 - binomial_tail(trials, at_most + 1) == pytest.approx(share, abs=5e-5)


def test_the_binomial_tail_agrees_with_counting_every_outcome() -> None:
    for trials in range(9):
        outcomes = [sum(coins) for coins in product((0, 1), repeat=trials)]
        for at_least in range(trials + 2):
            counted = sum(heads >= at_least for heads in outcomes) / len(outcomes)
            assert binomial_tail(trials, at_least) == counted


def test_the_sign_test_worked_by_hand() -> None:
    # Nine rose and one fell: (C(10,9) + C(10,10)) / 2^10 = 11 / 1024, doubled.
    test = sign_test([1.0] * 9 + [-0.1] + [0.0] * 5)
    assert (test.rose, test.fell, test.effective) == (9, 1, 10)
    assert test.p == pytest.approx(2 * 11 / 1024)


def test_without_a_change_there_is_no_evidence() -> None:
    assert sign_test([]).p == 1
    assert sign_test([0.0] * 10).effective == 0


@given(st.integers(0, 300), st.integers(0, 300))
def test_either_direction_is_as_surprising_as_the_other(rose: int, fell: int) -> None:
    assert two_sided_p(rose, fell) == two_sided_p(fell, rose)
    assert 0 <= two_sided_p(rose, fell) <= 1


def test_thousands_of_prompts_are_no_trouble() -> None:
    assert two_sided_p(10_300, 9_700) == pytest.approx(2.2e-5, rel=0.1)  # the normal curve has z = 4.24


def test_an_interval_holds_its_mean_and_shrinks_with_more_observations() -> None:
    few, many = ([0.1, -0.1, 0.4, 0.2] * times for times in (3, 30))
    narrow, wide = paired_interval(many, least=6), paired_interval(few, least=6)
    for interval in (narrow, wide):
        assert interval.low is not None
        assert interval.high is not None
        assert interval.mean == pytest.approx(0.15)
        assert interval.low < interval.mean < interval.high
    assert narrow.excludes(0)
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]


def test_too_few_observations_have_no_interval_and_prove_nothing() -> None:
    interval = paired_interval([5.0] * 5, least=6)
    assert (interval.mean, interval.low, interval.excludes(0)) == (5.0, None, False)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=20))
def test_the_same_differences_give_the_same_interval(differences: list[float]) -> None:
    assert paired_interval(differences, least=6) == paired_interval(differences, least=6)


def test_a_share_of_all_has_an_interval_all_the_same() -> None:
    # Clopper and Pearson's for 37 of 37: 0.025 to the power of 1/37, as in any table of exact limits.
    interval = all_alike(1.0, 37)
    assert (interval.mean, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(0.9051, abs=5e-5)
    nothing = all_alike(0.0, 10)
    assert (nothing.low, nothing.high) == (0.0, pytest.approx(0.3085, abs=5e-5))
