"""Drawing tokens: against transformers' own warpers, and by properties that hold for any logits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from trainer.serving.sampling import SEED_BITS, choice_seed, draw_tokens, fresh_seed, nucleus, uniforms


def in_vocabulary_order(logits: torch.Tensor, *, temperature: float, top_p: float) -> torch.Tensor:
    """Probabilities of all tokens, shape (batch, vocabulary), each row summing to one."""
    candidates, tokens = nucleus(logits, temperature=temperature, top_p=top_p)
    spread = torch.zeros(logits.shape, dtype=torch.float64).scatter(1, tokens, candidates)
    return spread / spread.sum(-1, keepdim=True)


@pytest.mark.parametrize("vocabulary", [7, 1000])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.95), (1.3, 0.5), (2.0, 0.999), (0.9, 0.01)])
def test_probabilities_are_those_of_the_warpers_of_transformers(
    vocabulary: int, scale: float, temperature: float, top_p: float
) -> None:
    logits = torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(7)) * scale
    warped = TemperatureLogitsWarper(temperature)(None, logits)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    expected = warped.softmax(-1).double()
    torch.testing.assert_close(
        in_vocabulary_order(logits, temperature=temperature, top_p=top_p), expected, rtol=2e-5, atol=1e-8
    )


def test_evenly_spread_numbers_draw_each_token_in_proportion_to_its_probability() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.125])
    numbers = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw_tokens(probabilities.log().expand(1000, -1), numbers, temperature=1.0, top_p=1.0)
    assert drawn.bincount().tolist() == [500, 250, 125, 125]


def test_the_nucleus_is_drawn_from_as_if_it_were_all_there_is() -> None:
    # 0.5 alone is short of 0.6; with 0.25 it is enough. Two thirds and one third of the draws.
    probabilities = torch.tensor([0.125, 0.25, 0.125, 0.5])
    numbers = (torch.arange(900, dtype=torch.float64) + 0.5) / 900
    drawn = draw_tokens(probabilities.log().expand(900, -1), numbers, temperature=1.0, top_p=0.6)
    assert drawn.bincount(minlength=4).tolist() == [0, 300, 0, 600]


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=400),
    number=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.05, 2),
    top_p=st.floats(0, 1),
)
def test_only_tokens_of_the_nucleus_are_drawn(
    logits: list[float], number: float, temperature: float, top_p: float
) -> None:
    row = torch.tensor([logits])
    token = draw_tokens(row, torch.tensor([number]).double(), temperature=temperature, top_p=top_p).item()
    assert in_vocabulary_order(row, temperature=temperature, top_p=top_p)[0, int(token)] > 0


@given(logits=st.lists(st.integers(-20, 20), min_size=1, max_size=30, unique=True), number=st.floats(0, 0.999))
def test_temperature_zero_and_an_empty_nucleus_take_the_most_probable_token(logits: list[int], number: float) -> None:
    row, numbers = torch.tensor([logits]).float(), torch.tensor([number]).double()
    best = logits.index(max(logits))
    for temperature in (0, 1e-300, 1e-7):
        assert draw_tokens(row, numbers, temperature=temperature, top_p=1.0).item() == best
    assert draw_tokens(row, numbers, temperature=1.0, top_p=0.0).item() == best


def test_the_largest_number_below_one_still_draws_a_token_that_has_probability() -> None:
    logits = torch.full((1, 5000), 0.0)
    logits[:, 3000:] = -torch.inf
    number = torch.nextafter(torch.ones(1).double(), torch.zeros(1).double())
    assert draw_tokens(logits, number, temperature=1.0, top_p=1.0).item() < 3000


@given(seed=st.integers(-(2**63), 2**63 - 1))
def test_a_longer_draw_of_numbers_begins_with_the_shorter_one(seed: int) -> None:
    numbers = uniforms(seed, 50)
    assert torch.equal(uniforms(seed, 20), numbers[:20])
    assert bool(((numbers >= 0) & (numbers < 1)).all())


def test_the_first_choice_has_the_seed_of_its_request_and_no_two_share_one() -> None:
    seeds = {choice_seed(seed, index) for seed in range(50) for index in range(8)}
    assert len(seeds) == 400
    assert [choice_seed(seed, 0) for seed in (0, -3, 2**62)] == [0, -3, 2**62]
    assert 0 <= fresh_seed() < 2**SEED_BITS
