"""Freezing judgments: what goes in, in which shape, and that the same judgments hash the same."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.comparisons.models import Assignment, JudgmentState, Picking
from app.comparisons.service.rejecting import Grounds, lift_rejection, reject_judgments
from app.database import make_engine
from app.datasets.models import Snapshot, SnapshotAnnotator, SnapshotState
from app.datasets.service import freezing
from app.datasets.service.counting import judgment_counts
from app.datasets.service.freezing import exports_folder, freeze_snapshot
from app.datasets.service.snapshots import request_snapshot, retry_snapshot
from app.errors import Conflict, Invalid, NotFound
from app.generation.models import Prompt
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import demonstrate, house, import_lines, judge_generated, make_snapshot, revise
from tests.factories.deployments import make_line
from trainer.contract.files import file_sha256, read_json
from trainer.contract.snapshot import MANIFEST_FILE, SnapshotManifest, SnapshotPolicy, rows_digest

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session)
    session.commit()
    return campaign


def rankings(snapshot: Snapshot) -> list[dict[str, Any]]:
    """All rows of both rankings files, in the order in which they are hashed."""
    folder = Path(snapshot.path or "")
    return [
        row
        for name in ("rankings.train.parquet", "rankings.eval.parquet")
        for row in pq.read_table(folder / name).to_pylist()
    ]


def test_a_ranking_becomes_a_row_with_ranks_weight_and_agreement(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    line = house("Why?", completions=["A", "B", "C"])
    line["judgments"] = [
        {"annotator": "x", "ranking": "2>1=3", "strength": 2, "ratings": {"2": 5}, "flags": {"1": ["odd"]}},
        {"annotator": "y", "ranking": "2>1>3", "criteria": {"honest": "1>2=3"}},
    ]
    import_lines(session_factory, campaign, [line], tmp_path)
    first, second, honest = rankings(make_snapshot(session_factory, settings, campaign=campaign))
    assert first["prompt"] == [{"role": "user", "content": "Why?"}]
    assert first["completions"] == [[{"role": "assistant", "content": text}] for text in "ABC"]
    assert (first["ranks"], second["ranks"], honest["ranks"]) == ([2, 1, 2], [2, 1, 3], [1, 2, 2])
    assert (first["strengths"], second["strengths"]) == ([2], None)
    assert (first["ratings"], first["flags"]) == ([None, 5.0, None], [["odd"], [], []])
    assert (first["weight"], first["judgments"]) == (0.5, 2)
    # Of the pairs 1-2, 1-3 and 2-3 the two agree on the first and last.
    assert first["agreement"] == second["agreement"] == pytest.approx(2 / 3)
    assert (honest["criterion"], honest["judgments"], honest["agreement"]) == ("honest", 1, None)


def test_all_bad_alone_is_a_row_in_which_everything_ties(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [
        house("Why?", judgments=[{"all_bad": True}]),
        house("How?", judgments=[{"all_bad": True, "ranking": "2>1"}]),
    ]
    import_lines(session_factory, campaign, lines, tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    by_prompt = {row["prompt"][0]["content"]: row for row in rankings(snapshot)}
    assert (by_prompt["Why?"]["ranks"], by_prompt["Why?"]["all_bad"]) == ([1, 1], True)
    assert (by_prompt["How?"]["ranks"], by_prompt["How?"]["all_bad"]) == ([2, 1], True)
    assert snapshot.counts is not None
    assert (snapshot.counts["all_bad_only"], snapshot.counts["pairs_train"] + snapshot.counts["pairs_eval"]) == (1, 1)


def test_error_spans_go_along_with_the_words_that_they_mark(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    line = house("Why?", completions=["🙂 is\r\nwrong", "B"])
    marked = [{"start": 6, "end": 11, "category": "Wrong"}, {"start": 0, "end": 1, "category": "Unclear", "text": "🙂"}]
    line["judgments"] = [{"annotator": "x", "ranking": "2>1", "spans": {"1": marked}, "criteria": {"true": "2>1"}}]
    import_lines(session_factory, campaign, [line], tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    unclear = {"start": 0, "end": 1, "category": "Unclear", "text": "🙂"}
    wrong = {"start": 6, "end": 11, "category": "Wrong", "text": "wrong"}
    rows = rankings(snapshot)
    assert [row["spans"] for row in rows] == [[[unclear, wrong], []]] * 2
    assert snapshot.rows_sha256 == rows_digest(rows)
    (judgment,) = pq.read_table(Path(snapshot.path or "") / "judgments.parquet").to_pylist()
    assert json.loads(judgment["spans"]) == {rows[0]["completion_ids"][0]: [unclear, wrong]}


def test_rows_without_what_came_later_hash_as_they_did_before_it() -> None:
    row = {"ranks": [1, 2], "flags": None}
    assert rows_digest([row]) == rows_digest([{**row, "spans": None, "source": None}])
    assert rows_digest([row]) != rows_digest([{"ranks": [1, 2]}])
    assert rows_digest([row]) != rows_digest([{**row, "spans": [[], []]}])


def test_the_same_judgments_hash_the_same_and_one_more_does_not(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house(f"Question {n}?", "1>2") for n in range(30)], tmp_path)
    first = make_snapshot(session_factory, settings, campaign=campaign)
    second = make_snapshot(session_factory, settings, campaign=campaign, at=NOW + timedelta(hours=1))
    import_lines(session_factory, campaign, [house("One more?", "1>2")], tmp_path)
    third = make_snapshot(session_factory, settings, campaign=campaign)
    assert first.rows_sha256 == second.rows_sha256 != third.rows_sha256
    assert (first.parent_id, second.parent_id, third.parent_id) == (None, first.id, second.id)
    trl = [exports_folder(settings, one.id) / "trl-preference.train.jsonl" for one in (first, second)]
    assert trl[0].read_bytes() == trl[1].read_bytes() != b""


def test_the_manifest_is_true_of_the_folder(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [*[house(f"Question {n}?", "1>2", "1=2") for n in range(20)], house("Unjudged?")]
    import_lines(session_factory, campaign, lines, tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    folder = Path(snapshot.path or "")
    manifest = read_json(folder / MANIFEST_FILE, SnapshotManifest)
    assert manifest.rows_sha256 == snapshot.rows_sha256 == rows_digest(rankings(snapshot))
    for name, entry in manifest.files.items():
        assert (file_sha256(folder / name), (folder / name).stat().st_size) == (entry.sha256, entry.bytes)
    assert {path.name for path in folder.iterdir()} == {*manifest.files, MANIFEST_FILE}
    assert manifest.files["judgments.parquet"].rows == manifest.counts["judgments"] == 40
    train = manifest.counts["rankings_train"]
    assert manifest.counts == {
        "judgments": 40,
        "surplus": 0,
        "rejected": 0,
        "rankings_train": train,
        "rankings_eval": 40 - train,
        "pairs_train": train // 2,
        "pairs_eval": 20 - train // 2,
        "ties": 20,
        "all_bad_only": 0,
        "checks": 0,
        "neither_split": 0,
        "comparisons": 20,
        "prompts": 20,
        "annotators": 2,
        "demonstrations": 0,
        "corrections": 0,
    }
    assert 0 < train < 40
    assert manifest.scope == {"line": campaign.line.slug if campaign.line else "", "campaign": str(campaign.id)}


def test_a_prompt_goes_to_its_side_and_one_on_neither_side_to_no_ranking(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house(f"Question {n}?", "1>2") for n in range(40)], tmp_path)
    bridging = session.scalars(select(Prompt).order_by(Prompt.id)).first()
    assert bridging is not None
    bridging.split = None
    session.commit()
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    split_of = {str(prompt.id): prompt.split for prompt in session.scalars(select(Prompt))}
    folder = Path(snapshot.path or "")
    for split in ("train", "eval"):
        rows = pq.read_table(folder / f"rankings.{split}.parquet").to_pylist()
        assert {split_of[row["prompt_id"]] for row in rows} == {split}
    assert snapshot.counts is not None
    assert (snapshot.counts["neither_split"], len(rankings(snapshot))) == (1, 39)
    assert len(pq.read_table(folder / "judgments.parquet")) == 40


def test_surplus_judgments_stay_out_unless_the_policy_lets_them_in(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    line = house("Why?", "1>2", "2>1", redundancy=1)
    line["judgments"][1]["surplus"] = True
    import_lines(session_factory, campaign, [line], tmp_path)
    without = make_snapshot(session_factory, settings, campaign=campaign)
    with_them = make_snapshot(session_factory, settings, campaign=campaign, include_surplus=True)
    assert (len(rankings(without)), len(rankings(with_them))) == (1, 2)
    assert without.counts is not None
    assert without.counts["surplus"] == 1


def test_rejected_judgments_stay_out_as_of_the_snapshots_instant_unless_the_policy_lets_them_in(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    kept, rejected, lifted = (judge_generated(session, campaign, f"{name}?") for name in ("Kept", "Out", "Back"))
    earlier = make_snapshot(session_factory, settings, campaign=campaign, at=NOW)
    given = {"by_id": None, "now": NOW + timedelta(hours=1)}
    reject_judgments(session, [rejected.id, lifted.id], grounds=Grounds("Skimmed."), **given)
    lift_rejection(session, judgment_id=lifted.id, **given)
    session.commit()
    later = {"campaign": campaign, "at": NOW + timedelta(hours=2)}
    without, again = (make_snapshot(session_factory, settings, **later) for _ in range(2))
    with_them = make_snapshot(session_factory, settings, **later, include_rejected=True)
    whole = make_snapshot(session_factory, settings, **later, incomplete_comparisons=False, include_rejected=True)
    as_before = make_snapshot(session_factory, settings, campaign=campaign, at=NOW)
    assert {row["prompt"][0]["content"] for row in rankings(without)} == {"Kept?", "Back?"}
    assert [len(rankings(each)) for each in (with_them, whole)] == [3, 2]
    assert [(each.counts or {})["rejected"] for each in (earlier, without, with_them)] == [0, 1, 1]
    assert without.rows_sha256 == again.rows_sha256
    assert with_them.rows_sha256 == earlier.rows_sha256 == as_before.rows_sha256, "at that instant none was rejected"
    assert with_them.path is not None
    judgments = pq.read_table(Path(with_them.path) / "judgments.parquet").to_pylist()
    assert {row["judgment_id"]: row["rejected"] for row in judgments} == {
        str(kept.id): False, str(rejected.id): True, str(lifted.id): False
    }  # fmt: skip
    counts = judgment_counts(session, campaign_id=campaign.id)
    assert (counts.judgments, counts.surplus, counts.rejected) == (2, 0, 1)


def test_a_retracted_judgment_is_gone_and_a_second_thought_stands_in_for_the_first(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    kept, retracted, changed = (judge_generated(session, campaign, f"{name}?") for name in ("Kept", "Gone", "Changed"))
    for judgment in (retracted, changed):
        assignment = session.get_one(Assignment, judgment.assignment_id)
        revise(session, assignment, revision=2, state=JudgmentState.RETRACTED)
    before = judgment_counts(session, campaign_id=campaign.id).judgments
    assignment = session.get_one(Assignment, changed.assignment_id)
    revise(session, assignment, revision=3, ranking=(changed.ranking or [])[::-1])
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    ranks = {row["prompt"][0]["content"]: row["ranks"] for row in rankings(snapshot)}
    assert ranks == {"Kept?": [1, 2], "Changed?": [2, 1]}
    assert (before, judgment_counts(session, campaign_id=campaign.id).judgments) == (1, 2)
    annotators = set(session.scalars(select(SnapshotAnnotator.user_id)))
    assert annotators == {kept.annotator_id, changed.annotator_id}


def test_a_snapshot_is_of_its_instant_however_late_it_is_written(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    judge_generated(session, campaign, "Before?")
    undone = judge_generated(session, campaign, "Undone later?")
    judge_generated(session, campaign, "After?", judged_at=NOW + timedelta(minutes=2))
    assignment = session.get_one(Assignment, undone.assignment_id)
    later = NOW + timedelta(minutes=2)
    revise(session, assignment, revision=2, state=JudgmentState.RETRACTED, judged_at=later)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, at=NOW + timedelta(minutes=1))
    assert {row["prompt"][0]["content"] for row in rankings(snapshot)} == {"Before?", "Undone later?"}


def test_a_judgment_row_says_what_was_shown_and_asked(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign
) -> None:
    judgment = judge_generated(session, campaign, "Why?", active_ms=900, ui_version="7")
    judgment.comparison.picked = Picking.UNCERTAIN.value
    session.commit()
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    row = pq.read_table(Path(snapshot.path or "") / "judgments.parquet").to_pylist()[0]
    ids = row["completion_ids"]
    assert (row["judgment_id"], row["campaign_revision"], row["source"]) == (str(judgment.id), 1, "palate")
    assert (row["shown_order"], row["ranking"]) == (ids[::-1], [[ids[0]], [ids[1]]])
    assert (row["active_ms"], row["ui_version"], row["judged_at"]) == (900, "7", NOW)
    assert row["model_versions"] == [f"{campaign.line.slug}-v0" if campaign.line else ""] * 2
    assert row["picked"] == "uncertain"


def test_incomplete_comparisons_can_be_left_out(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [house("Half?", "1>2", redundancy=2), house("Whole?", "1>2", "1>2", redundancy=2)]
    import_lines(session_factory, campaign, lines, tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, incomplete_comparisons=False)
    assert {row["prompt"][0]["content"] for row in rankings(snapshot)} == {"Whole?"}


def test_rationales_are_left_out_unless_asked_for(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    judgment = {"annotator": "Jo Doe", "ranking": "1>2", "rationale": "Mine."}
    import_lines(session_factory, campaign, [house("Why?", judgments=[judgment])], tmp_path)
    without = make_snapshot(session_factory, settings, campaign=campaign)
    with_them = make_snapshot(session_factory, settings, campaign=campaign, include_rationales=True)
    rows = [
        pq.read_table(Path(snapshot.path or "") / "judgments.parquet").to_pylist()[0]
        for snapshot in (without, with_them)
    ]
    assert [row["rationale"] for row in rows] == [None, "Mine."]
    assert rows[0]["annotator"] == rows[1]["annotator"] != "Jo Doe"
    assert "Jo Doe" not in (Path(without.path or "") / "judgments.parquet").read_bytes().decode("latin-1")


def test_the_system_prompt_that_generation_used_comes_first(
    session: Session, session_factory: Sessions, settings: Settings, tmp_path: Path
) -> None:
    campaign = make_campaign(session, system_prompt="Be brief.")
    session.commit()
    import_lines(session_factory, campaign, [house("Imported?", "1>2")], tmp_path)
    judge_generated(session, campaign, "Generated?")
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    by_prompt = {row["prompt"][-1]["content"]: row["prompt"] for row in rankings(snapshot)}
    assert [turn["role"] for turn in by_prompt["Imported?"]] == ["user"]
    assert by_prompt["Generated?"][0] == {"role": "system", "content": "Be brief."}
    assert snapshot.manifest is not None
    assert snapshot.manifest["on_policy_share"] == 0.5


def test_demonstrations_are_frozen_with_their_authors_under_pseudonyms(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    author = make_user(session)
    import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    demonstrate(session, campaign, "Show me.", "Like this.", by=author)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    rows = pq.read_table(Path(snapshot.path or "") / "demonstrations.parquet").to_pylist()
    assert rows[0]["completion"] == [{"role": "assistant", "content": "Like this."}]
    assert rows[0]["source"] == "written"
    assert rows[0]["author"].startswith("a-")
    assert session.scalars(select(SnapshotAnnotator.user_id)).all() == [author.id]


def test_a_line_is_frozen_with_all_its_campaigns(
    session: Session, session_factory: Sessions, settings: Settings, tmp_path: Path
) -> None:
    line = make_line(session)
    one, two, other = make_campaign(session, line=line), make_campaign(session, line=line), make_campaign(session)
    session.commit()
    for campaign in (one, two, other):
        import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    snapshot = make_snapshot(session_factory, settings, line_id=line.id)
    assert len(rankings(snapshot)) == 2
    assert snapshot.manifest is not None
    assert snapshot.manifest["scope"] == {"line": line.slug}


def test_nothing_judged_is_nothing_to_freeze(session: Session, campaign: Campaign) -> None:
    asked: dict[str, Any] = {"policy": SnapshotPolicy(), "by_id": None, "now": NOW}
    with pytest.raises(Invalid, match="Nothing has been judged"):
        request_snapshot(session, line_id=None, campaign_id=campaign.id, **asked)
    with pytest.raises(NotFound):
        request_snapshot(session, line_id=None, campaign_id=10**9, **asked)
    with pytest.raises(NotFound):
        request_snapshot(session, line_id=None, campaign_id=None, **asked)


@pytest.mark.parametrize(
    "step", ["_manifest", "_note_annotators", "_finish_folder", "write_trl_preference", "_mark_ready"]
)
def test_a_freeze_that_was_killed_anywhere_is_finished_by_the_next(
    session_factory: Sessions,
    settings: Settings,
    campaign: Campaign,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2")], settings.data_dir)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(freezing, step, killed)
        with pytest.raises(KeyboardInterrupt):
            make_snapshot(session_factory, settings, campaign=campaign)
    with session_factory.begin() as session:
        snapshot = session.scalars(select(Snapshot)).one()
        assert snapshot.state is SnapshotState.WAITING
    for _ in range(2):
        freeze_snapshot(session_factory, settings, snapshot_id=snapshot.id, now=NOW + timedelta(hours=1))
    with session_factory.begin() as session:
        snapshot = session.scalars(select(Snapshot)).one()
        assert snapshot.state is SnapshotState.READY
    assert len(rankings(snapshot)) == 1
    assert {path.name for path in settings.snapshots_dir.iterdir()} == {str(snapshot.id), f"{snapshot.id}-exports"}


def test_a_freeze_that_cannot_be_written_says_why_and_can_be_tried_again(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    settings.snapshots_dir.write_text("in the way")
    with pytest.raises(OSError):
        make_snapshot(session_factory, settings, campaign=campaign)
    with session_factory.begin() as session:
        snapshot = session.scalars(select(Snapshot)).one()
        assert snapshot.state is SnapshotState.FAILED
        assert "could not be written" in snapshot.message
        retry_snapshot(session, snapshot=snapshot, by_id=None, now=NOW)
    settings.snapshots_dir.unlink()
    freeze_snapshot(session_factory, settings, snapshot_id=snapshot.id, now=NOW)
    with session_factory.begin() as session:
        snapshot = session.scalars(select(Snapshot)).one()
        assert snapshot.state is SnapshotState.READY
        with pytest.raises(Conflict):
            retry_snapshot(session, snapshot=snapshot, by_id=None, now=NOW)


def test_the_folder_of_another_database_is_not_taken_for_ones_own(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    later = session.get_one(Snapshot, snapshot.id)
    later.state, later.as_of = SnapshotState.WAITING, NOW - timedelta(days=1)
    session.commit()
    with pytest.raises(Conflict, match="another database"):
        freeze_snapshot(session_factory, settings, snapshot_id=snapshot.id, now=NOW)


def test_counts_tell_what_a_snapshot_would_hold_and_what_is_new(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [house(f"Question {n}?", "1>2") for n in range(9)]
    lines += [
        house("Tie?", "1=2"),
        house("Bad?", judgments=[{"all_bad": True}]),
        house("Three?", "1>2=3", completions="abc"),
    ]
    import_lines(session_factory, campaign, lines, tmp_path)
    with session_factory() as session:
        before = judgment_counts(session, campaign_id=campaign.id)
        of_line = judgment_counts(session, line_id=campaign.line_id)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, at=NOW + timedelta(minutes=1))
    import_lines(session_factory, campaign, [house("New?", "1>2")], tmp_path, at=NOW + timedelta(minutes=2))
    with session_factory() as session:
        after = judgment_counts(session, campaign_id=campaign.id)
        empty = judgment_counts(session, campaign_id=10**9)
    assert (before.judgments, before.pairs, before.ties, before.all_bad, before.prompts) == (12, 11, 1, 1, 12)
    assert before == of_line
    assert snapshot.counts is not None
    assert (before.train, before.eval) == (snapshot.counts["pairs_train"], snapshot.counts["pairs_eval"])
    assert (before.since_last, after.since_last, after.judgments) == (12, 1, 13)
    assert (empty.judgments, empty.pairs, empty.since_last, empty.last_frozen_at) == (0, 0, 0, None)


@pytest.mark.race
def test_what_is_judged_while_freezing_is_not_half_in(fresh_database: str, settings: Settings, tmp_path: Path) -> None:
    engine = make_engine(fresh_database)
    factory = sessionmaker(engine)
    with factory.begin() as session:
        campaign = make_campaign(session)
        session.expunge_all()
    import_lines(factory, campaign, [house(f"{n}?", "1>2") for n in range(1500)], tmp_path)
    with factory.begin() as session:
        scope: dict[str, Any] = {"line_id": None, "campaign_id": campaign.id}
        snapshot_id = request_snapshot(session, **scope, policy=SnapshotPolicy(), by_id=None, now=NOW).id
    came_later = [house("Late?", "1>2")]
    freeze_snapshot(
        factory,
        settings,
        snapshot_id=snapshot_id,
        now=NOW,
        progress=lambda _: came_later and import_lines(factory, campaign, [came_later.pop()], tmp_path) and None,
    )
    with factory() as session:
        counts = session.get_one(Snapshot, snapshot_id).counts
        assert counts is not None
        assert counts["judgments"] == 1500
        assert judgment_counts(session, campaign_id=campaign.id).judgments == 1501
    engine.dispose()
