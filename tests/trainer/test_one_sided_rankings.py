"""Snapshots in which all verdicts are alike: a run of every method ends well, or says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.factories.snapshots import Row, ranking_row, write_snapshot
from tests.trainer.conftest import MakeRun, vowel_rows
from tests.trainer.test_run import failed, report_of
from trainer.contract.run import Budget, Method
from trainer.run import ExitCode, run

BRIEF = Budget(threads=1, max_steps=3)
RANKED = [method for method in Method if method is not Method.SFT]
UNPAIRED = [Method.KTO, Method.BCO]
TWO = ["aeio", "bcd"]


def the_better_one_last(rows: list[Row]) -> list[Row]:
    """The same rankings with the completions the other way round."""
    turned = ("completions", "completion_ids", "model_versions", "ranks")
    return [row | {name: row[name][::-1] for name in turned} for row in rows]


@pytest.mark.parametrize("turn", [list, the_better_one_last])
def test_what_stands_in_the_same_place_in_every_ranking_is_learnt_by_what_it_says(
    turn: Callable[[list[Row]], list[Row]], make_run: MakeRun, tmp_path: Path
) -> None:
    held_out = vowel_rows(16, seed=2)
    mixed = [*held_out[:8], *the_better_one_last(held_out[8:])]
    snapshot = write_snapshot(tmp_path / "snapshot", train=turn(vowel_rows(40, seed=1)), held_out=mixed)
    folder = make_run(snapshot=snapshot)
    assert run(folder) == ExitCode.DONE
    after = report_of(folder).after
    assert after is not None
    assert after.preferences.accuracy == 1


@pytest.mark.parametrize("method", RANKED)
def test_one_pair_alone_is_trained_on(method: Method, make_run: MakeRun, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "snapshot", train=[ranking_row("q", TWO)], held_out=[ranking_row("r", TWO)])
    folder = make_run(method=method, snapshot=snapshot, budget=BRIEF)
    assert run(folder) == ExitCode.DONE
    assert (report_of(folder).train_pairs, report_of(folder).steps) == (1, 3)


@pytest.mark.parametrize("method", RANKED)
def test_ties_alone_are_refused(method: Method, make_run: MakeRun, tmp_path: Path) -> None:
    ties = [ranking_row(f"q{number}", TWO, ranks=[1, 1]) for number in range(4)]
    folder = make_run(method=method, snapshot=write_snapshot(tmp_path / "snapshot", train=ties, held_out=ties))
    assert "4 training rankings make no preference pair (left out: 8 pairs of completions judged equally good)" in (
        failed(folder)
    )


@pytest.mark.parametrize("method", RANKED)
def test_bad_completions_alone_are_learnt_from_one_by_one_or_refused(
    method: Method, make_run: MakeRun, tmp_path: Path
) -> None:
    bad = [ranking_row(f"q{number}", TWO, ranks=[1, 1], all_bad=True) for number in range(4)]
    folder = make_run(method=method, snapshot=write_snapshot(tmp_path / "snapshot", train=bad), budget=BRIEF)
    if method in UNPAIRED:
        assert run(folder) == ExitCode.DONE
        assert (report_of(folder).train_pairs, report_of(folder).steps) == (0, 3)
    else:
        assert "Start a new run by KTO or BCO" in failed(folder)
