"""What samples look like: repetition, refusals, broken text, probes."""

import pytest

from trainer.behaviour import behaviour_of, is_malformed, is_refusal, probe_passed, repetition
from trainer.contract.report import Sample
from trainer.contract.run import ProbePrompt


def sample(text: str, *, tokens: int = 10, finished: bool = True, drift: float = 0.0) -> Sample:
    """A sample of which only what is named matters."""
    return Sample(
        text=text,
        tokens=tokens,
        finished=finished,
        repetition=repetition(text),
        refusal=is_refusal(text),
        malformed=is_malformed(text),
        drift=drift,
    )


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("a b c d e f", 0.0),
        ("I like it, I like it, I like it,", 4 / 7),  # 9 words, 7 trigrams, 3 different
        ("no no no no no", 2 / 3),
    ],
)
def test_repetition_is_the_share_of_trigrams_seen_before(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    ["I do not know.", "Sorry, I don’t know that.", "I'm unable to help.", "As an AI, I have no taste.", "I can't."],
)
def test_a_refusal_is_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ["Paris.", "I know it: Paris!", "You cannot miss it.", "x" * 300 + " I cannot"])
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize("text", ["", " \n", "broken \ufffd bytes", "bell \x07", "the the the The", "a" * 40])
def test_broken_text_is_malformed(text: str) -> None:
    assert is_malformed(text)


@pytest.mark.parametrize(
    "text", ["Paris.", "1 + 1 = 2", "Très bien, 東京!", "ha ha ha", "- one\n- two\n\n```py\nx\n```"]
)
def test_ordinary_text_is_not_malformed(text: str) -> None:
    assert not is_malformed(text)


def test_behaviour_is_the_mean_over_all_samples() -> None:
    behaviour = behaviour_of(
        [
            [sample("Paris.", tokens=2), sample("paris.", tokens=4, drift=0.2)],
            [sample("I do not know.", tokens=6, finished=False), sample("", tokens=0)],
        ]
    )
    assert behaviour.samples == 4
    assert behaviour.mean_tokens == 3
    assert behaviour.unfinished_share == behaviour.refusal_share == behaviour.malformed_share == 0.25
    assert behaviour.drift == pytest.approx(0.05)
    assert behaviour.distinct_share == pytest.approx((1 / 2 + 2 / 2) / 2)


def test_behaviour_of_no_samples_is_all_zero() -> None:
    assert behaviour_of([]).samples == 0


def test_a_probe_passes_by_one_expected_word_and_no_forbidden_one() -> None:
    probe = ProbePrompt(name="capital", prompt=[], expected=["paris", "Lutetia"], forbidden=["London"])
    assert probe_passed(probe, "It is PARIS.")
    assert not probe_passed(probe, "It is Rome.")
    assert not probe_passed(probe, "Paris, not London.")
    assert not probe_passed(probe, "Paris Paris Paris Paris")


def test_a_probe_that_asks_for_nothing_passes_if_well_formed() -> None:
    assert probe_passed(ProbePrompt(name="any", prompt=[]), "Anything.")
    assert not probe_passed(ProbePrompt(name="any", prompt=[]), "")
