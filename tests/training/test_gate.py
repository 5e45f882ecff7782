"""The gate's arithmetic, check by check, and what each finding does to a version."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.gate.behaviour import DRIFT_BOUND
from app.training.gate.checks import Check, Verdict, beside
from app.training.gate.judging import is_blocked, judge, preference_verdict
from app.training.gate.preferences import preference_checks
from tests.training.reports import Margins, preferences, probe, report, sample
from trainer.contract.report import Outcome, Report


def check(name: str, of: Report) -> Check:
    """One check of a report."""
    return next(check for check in judge(of) if check.name == name)


def compared(before: Margins, after: Margins, **shared: object) -> dict[str, Check]:
    """The checks of preferences between two versions."""
    checks = preference_checks(preferences(before, **shared), preferences(after, **shared))  # type: ignore[arg-type]
    return {check.name: check for check in checks}


def test_a_version_that_learned_what_was_asked_passes_without_a_warning() -> None:
    checks = judge(report())
    assert not is_blocked(checks)
    assert [check.name for check in checks if check.warns] == []
    assert preference_verdict(checks) is Verdict.BETTER


def test_the_figures_of_both_preference_checks_worked_by_hand() -> None:
    # Ten prompts: eight pairs turn from wrong to right, one from right to wrong, one stays right with a smaller margin.
    found = compared([-1.0] * 8 + [1.0, 3.0], [1.0] * 8 + [-1.0, 2.0])
    accuracy, margins = found["held_out_accuracy"], found["held_out_margins"]
    assert (accuracy.before, accuracy.after) == (0.2, 0.9)
    assert (accuracy.figures["rose"], accuracy.figures["fell"], accuracy.effective) == (8, 1, 9)
    assert accuracy.figures["p"] == pytest.approx(2 * (9 + 1) / 2**9)  # 0.039: not below the level of 0.025
    assert accuracy.verdict is Verdict.UNCLEAR
    # Margins: eight rose, two fell; 2 * (C(10,8) + C(10,9) + C(10,10)) / 2^10 = 2 * 56 / 1024.
    assert (margins.figures["rose"], margins.figures["fell"]) == (8, 2)
    assert margins.figures["p"] == pytest.approx(2 * 56 / 1024)
    assert margins.before == pytest.approx((-8 + 1 + 3) / 10)
    assert margins.after == pytest.approx((8 - 1 + 2) / 10)
    assert "in 8 of 10 held-out pairs" in margins.message


def test_margins_speak_where_too_few_pairs_changed_sides() -> None:
    # Every margin rises a little, but only two pairs change from wrong to right.
    found = compared([-1.0] * 2 + [1.0] * 18, [1.0] * 2 + [1.5] * 18)
    accuracy, margins = found["held_out_accuracy"], found["held_out_margins"]
    assert (accuracy.verdict, margins.verdict) == (Verdict.UNCLEAR, Verdict.BETTER)
    assert not accuracy.warns, "the sharper check has spoken"


@pytest.mark.parametrize("name", ["held_out_accuracy", "held_out_margins"])
def test_worse_preferences_block(name: str) -> None:
    found = compared([1.0] * 12, [-1.0] * 12)[name]
    assert (found.verdict, found.blocks) == (Verdict.WORSE, True)
    assert is_blocked(judge(report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12))))


def test_too_little_evidence_warns_and_does_not_block() -> None:
    found = judge(report(before=preferences([1.0, -1.0, 1.0]), after=preferences([0.5, -0.5, 0.9])))
    unclear = [check for check in found if check.verdict is Verdict.UNCLEAR]
    assert [(check.name, check.warns, check.blocks) for check in unclear] == [
        ("held_out_accuracy", True, False),
        ("held_out_margins", True, False),
    ]
    assert not is_blocked(found)
    assert preference_verdict(found) is Verdict.UNCLEAR


def test_without_a_held_out_pair_there_is_a_warning_with_what_to_do() -> None:
    found = judge(report(before=preferences([]), after=preferences([])))
    assert not is_blocked(found)
    first = found[0]
    assert (first.name, first.verdict, first.warns) == ("held_out_accuracy", Verdict.UNCLEAR, True)
    assert "Judge more comparisons" in first.message


def test_many_judgments_of_one_prompt_are_one_observation() -> None:
    # The same twelve improvements count as evidence on twelve prompts, and as one observation on a single prompt.
    apart = compared([-1.0] * 12, [1.0] * 12)["held_out_margins"]
    together = compared([-1.0] * 12, [1.0] * 12, prompts=[0] * 12)["held_out_margins"]
    assert (apart.effective, apart.verdict) == (12, Verdict.BETTER)
    assert (together.effective, together.verdict) == (1, Verdict.UNCLEAR)


def test_annotators_who_contradict_each_other_cancel_out() -> None:
    # Each prompt was judged twice, in opposite ways: whatever one pair gains the other loses.
    before, after = [1.0, -1.0] * 12, [3.0, -3.0] * 12
    found = compared(before, after, prompts=[place // 2 for place in range(24)])["held_out_margins"]
    assert found.effective == 0


def test_a_drop_too_small_to_matter_does_not_block_however_well_proven() -> None:
    margins = [1.0] * 3000
    found = compared(margins, [-1.0] * 12 + [1.0] * 2988)["held_out_accuracy"]
    assert found.figures["p"] < 0.001
    assert (found.before, found.after) == (1.0, pytest.approx(0.996))
    assert not found.blocks


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=40))
def test_turning_every_verdict_round_turns_better_into_worse(pairs: list[tuple[float, float]]) -> None:
    before, after = [one for one, _ in pairs], [two for _, two in pairs]
    forth = compared(before, after)["held_out_margins"]
    back = compared([-one for one in before], [-two for two in after])["held_out_margins"]
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER, Verdict.UNCLEAR: Verdict.UNCLEAR}
    assert back.verdict is turned[forth.verdict]


def test_random_changes_are_seldom_called_better_or_worse() -> None:
    rng = random.Random(5)
    verdicts = []
    for _ in range(400):
        before = [rng.gauss(0, 2) for _ in range(25)]
        after = [margin + rng.gauss(0, 1) for margin in before]
        verdicts.append(preference_verdict(compared(before, after).values()))
    called = sum(verdict is not Verdict.UNCLEAR for verdict in verdicts)
    assert called <= 400 * 0.05 + 3 * (400 * 0.05 * 0.95) ** 0.5, "one in twenty, and three standard deviations"


# --- Behaviour


def test_drift_beyond_the_bound_blocks() -> None:
    found = check("drift", report(samples_after=[sample(drift=DRIFT_BOUND + 0.1)] * 12))
    assert (found.verdict, found.blocks, found.after) == (Verdict.WORSE, True, pytest.approx(0.6))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("length", sample(), sample(tokens=40)),
        ("length", sample(tokens=40), sample()),
        ("unfinished", sample(), sample(finished=False)),
        ("repetition", sample(), sample(repetition=0.5)),
        ("refusals", sample(), sample(refusal=True)),
        ("refusals", sample(refusal=True), sample()),
        ("malformed_text", sample(), sample(malformed=True)),
    ],
)
def test_behaviour_beyond_its_bound_blocks_and_is_named(name: str, before: object, after: object) -> None:
    checks = judge(report(samples_before=[before] * 12, samples_after=[after] * 12))  # type: ignore[list-item]
    assert [check.name for check in checks if check.blocks] == [name]


@pytest.mark.parametrize("count", [1, 5])
def test_with_few_prompts_what_lies_beyond_a_bound_blocks_as_it_stands(count: int) -> None:
    found = check(
        "malformed_text", report(samples_before=[sample()] * count, samples_after=[sample(malformed=True)] * count)
    )
    assert found.blocks


def test_a_figure_beyond_its_bound_that_may_be_chance_warns() -> None:
    # One sample of twelve refuses more, a rise of 8 points beyond the bound of 5, and of one prompt alone.
    found = check("malformed_text", report(samples_after=[sample(malformed=True)] + [sample()] * 11))
    assert (found.verdict, found.blocks, found.warns) == (Verdict.UNCLEAR, False, True)
    assert "may be chance" in found.message


def test_less_of_what_nobody_wants_is_better() -> None:
    found = check("malformed_text", report(samples_before=[sample(malformed=True)] * 12))
    assert (found.verdict, found.blocks, found.warns) == (Verdict.BETTER, False, False)


def test_longer_completions_within_the_bound_are_noted() -> None:
    found = check("length", report(samples_after=[sample(tokens=18)] * 12))
    assert found.figures["factor"] == pytest.approx(19 / 11)
    assert (found.verdict, found.blocks, found.warns) == (Verdict.OK, False, True)
    assert found.message.endswith("Within the bound, but more than chance explains.")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.503, "0.503"), (0.4996, "0.50"), (0.5, "0.50"), (0.51, "0.51"), (-0.001, "0.00"), (3.0, "3.00")],
)
def test_a_figure_says_on_which_side_of_its_bound_it_is(value: float, told: str) -> None:
    assert beside(value, 0.5) == told


def test_without_samples_drift_is_unknown_and_that_is_said() -> None:
    found = check("drift", report(samples=[]))
    assert (found.verdict, found.warns) == (Verdict.UNCLEAR, True)


# --- Probes


def test_a_probe_that_passed_before_and_fails_now_blocks_by_name() -> None:
    found = check("probes", report(probes=[probe("sky"), probe("capital of France", after=False)]))
    assert (found.verdict, found.blocks) == (Verdict.WORSE, True)
    assert "Passed before and fail now: capital of France." in found.message


def test_a_probe_that_never_passed_blocks_nothing() -> None:
    found = check("probes", report(probes=[probe(before=False, after=False), probe("sea", before=False)]))
    assert (found.verdict, found.blocks) == (Verdict.BETTER, False)


def test_a_line_without_probes_is_warned() -> None:
    found = check("probes", report(probes=[]))
    assert (found.verdict, found.warns, found.blocks) == (Verdict.UNCLEAR, True, False)


def test_only_a_run_that_succeeded_is_judged() -> None:
    with pytest.raises(ValueError, match="only a run that succeeded"):
        judge(report(state=Outcome.CANCELLED))
