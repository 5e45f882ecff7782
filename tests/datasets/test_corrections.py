"""What people wrote, in snapshots: a file of its own and, where the policy says so, the chosen side of a pair."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.comparisons.models import Comparison, Demonstration, Judgment, JudgmentState
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot
from app.generation.models import CompletionSource, Prompt
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import house, import_lines, judge_generated, make_snapshot, revise
from tests.factories.generation import make_completion
from trainer.snapshot import read_snapshot

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session, system_prompt="Be kind.")


def corrected(session: Session, judgment: Judgment, text: str, *, number: int = 1, **given: Any) -> Demonstration:
    """What the annotator of a judgment wrote in the place of the one they preferred."""
    comparison = session.get_one(Comparison, judgment.comparison_id)
    written = make_completion(
        session, comparison.prompt, text, source=CompletionSource.PERSON, author_id=judgment.annotator_id
    )
    demonstration = Demonstration(
        campaign_id=comparison.campaign_id,
        prompt_id=comparison.prompt_id,
        completion_id=written.id,
        author_id=judgment.annotator_id,
        corrects_id=(judgment.ranking or [[]])[0][0],
        judgment_id=judgment.id,
        number=number,
        **{"created_at": NOW, **given},
    )
    session.add(demonstration)
    session.commit()
    return demonstration


def rows(snapshot: Snapshot, name: str) -> list[dict[str, Any]]:
    return list(pq.read_table(Path(snapshot.path or "") / f"{name}.parquet").to_pylist())


def pairs(snapshot: Snapshot) -> list[dict[str, Any]]:
    both = [*rows(snapshot, "rankings.train"), *rows(snapshot, "rankings.eval")]
    return [row for row in both if row["source"] == "correction"]


def texts(row: dict[str, Any]) -> list[str]:
    return [messages[0]["content"] for messages in row["completions"]]


def test_corrections_are_demonstrations_with_what_they_correct_and_no_pairs_unless_asked_for(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    judgment = judge_generated(session, campaign, "Why?")
    corrected(session, judgment, "One, and kindly.")
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    (row,) = rows(snapshot, "demonstrations")
    assert row["completion"] == [{"role": "assistant", "content": "One, and kindly."}]
    assert row["corrects"] == [{"role": "assistant", "content": "One."}]
    assert row["prompt"][0] == {"role": "system", "content": "Be kind."}
    assert (row["source"], row["judgment_id"], row["split"]) == (
        "corrected",
        str(judgment.id),
        session.scalars(select(Prompt.split)).one(),
    )
    assert row["author"] == rows(snapshot, "judgments")[0]["annotator"]
    assert pairs(snapshot) == []
    assert snapshot.counts is not None
    assert (snapshot.counts["demonstrations"], snapshot.counts["corrections"]) == (1, 0)


def test_with_the_switch_a_correction_is_the_chosen_side_of_a_pair_that_all_readers_see(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    for number in range(12):
        corrected(session, judge_generated(session, campaign, f"Why {number}?"), f"Better {number}.")
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, corrections_as_chosen=True)
    found = pairs(snapshot)
    assert sorted(texts(row) for row in found) == sorted([f"Better {number}.", "One."] for number in range(12))
    assert {(tuple(row["ranks"]), row["weight"], row["criterion"], row["agreement"]) for row in found} == {
        ((1, 2), 1.0, None, None)
    }
    assert all(row["model_versions"][0] is None and row["model_versions"][1] for row in found)
    split_of = {str(prompt.id): prompt.split for prompt in session.scalars(select(Prompt))}
    for side in ("train", "eval"):
        assert {split_of[row["prompt_id"]] for row in rows(snapshot, f"rankings.{side}")} == {side}
    assert snapshot.counts is not None
    assert snapshot.counts["corrections"] == 12
    assert snapshot.counts["pairs_train"] + snapshot.counts["pairs_eval"] == 24
    lines = [
        orjson.loads(line)
        for side in ("train", "eval")
        for line in (exports_folder(settings, snapshot.id) / f"trl-preference.{side}.jsonl").read_bytes().splitlines()
    ]
    chosen = {line["chosen"][0]["content"] for line in lines if line["rejected"][0]["content"] == "One."}
    assert chosen == {f"Better {number}." for number in range(12)}
    trained = read_snapshot(Path(snapshot.path or ""), rows_sha256=snapshot.rows_sha256 or "")
    assert len([*trained.train, *trained.held_out]) == 24
    assert all(each.criterion is None for each in trained.train)


def test_the_last_of_what_was_written_is_in_force_at_the_instant_of_the_snapshot(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    judgment = judge_generated(session, campaign, "Why?")
    corrected(session, judgment, "Better.")
    corrected(session, judgment, "Best.", number=2, created_at=NOW + timedelta(hours=1))
    for at, said in ((NOW, "Better."), (NOW + timedelta(hours=2), "Best.")):
        snapshot = make_snapshot(session_factory, settings, campaign=campaign, at=at, corrections_as_chosen=True)
        assert [texts(row) for row in pairs(snapshot)] == [[said, "One."]]
        assert [row["completion"][0]["content"] for row in rows(snapshot, "demonstrations")] == [said]


def test_a_correction_goes_with_the_judgment_that_was_taken_back_or_set_aside(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    kept, retracted, rejected = (judge_generated(session, campaign, f"{word}?") for word in ("A", "B", "C"))
    for judgment in (kept, retracted, rejected):
        corrected(session, judgment, f"Better {judgment.id}.")
    assert retracted.assignment is not None
    revise(session, retracted.assignment, revision=2, state=JudgmentState.RETRACTED)
    grounds = Grounds.of("Too quick.", serves_again=False)
    reject_judgment(session, judgment_id=rejected.id, grounds=grounds, by_id=None, now=NOW)
    session.commit()
    strict = make_snapshot(session_factory, settings, campaign=campaign, corrections_as_chosen=True)
    assert [row["judgment_id"] for row in rows(strict, "demonstrations")] == [str(kept.id)]
    assert len(pairs(strict)) == 1
    lenient = make_snapshot(
        session_factory, settings, campaign=campaign, corrections_as_chosen=True, include_rejected=True
    )
    assert {row["judgment_id"] for row in rows(lenient, "demonstrations")} == {str(kept.id), str(rejected.id)}
    assert len(pairs(lenient)) == 2


def test_a_correction_of_what_was_only_called_bad_is_preferred_to_it_and_weighs_its_share(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    written = {"text": "Better.", "corrects": 2, "written_at": "2026-11-20T10:00:00Z"}
    judgments = [{"annotator": "ann", "all_bad": True, "demonstration": written}]
    import_lines(session_factory, campaign, [house("Why?", judgments=judgments, redundancy=4)], tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, corrections_as_chosen=True)
    (row,) = pairs(snapshot)
    assert (texts(row), row["all_bad"], row["weight"]) == (["Better.", "Two."], False, 0.25)
    (demonstration,) = rows(snapshot, "demonstrations")
    assert demonstration["author"] == rows(snapshot, "judgments")[0]["annotator"]
    assert demonstration["prompt"] == [{"role": "user", "content": "Why?"}], "an import has no system prompt"
