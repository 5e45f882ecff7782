"""The snapshot folder that the app writes, read by the trainer and by researchers' own tools."""

from pathlib import Path

import pytest
from datasets import load_dataset
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot
from app.settings import Settings
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import demonstrate, house, import_lines, judge_generated, make_snapshot
from trainer.contract.snapshot import (
    DEMONSTRATIONS_FILE,
    JUDGMENTS_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    demonstrations_schema,
    judgments_schema,
    rankings_schema,
)
from trainer.errors import SnapshotError
from trainer.rankings import ranked_texts
from trainer.snapshot import read_snapshot

Sessions = sessionmaker[Session]


@pytest.fixture
def snapshot(session: Session, session_factory: Sessions, settings: Settings, tmp_path: Path) -> Snapshot:
    """Pairs, a four-way ranking, ties, all bad, criteria, a system prompt and a judgment made here."""
    campaign = make_campaign(session, system_prompt="Be kind. 🙂")
    session.commit()
    judgment = {"annotator": "x", "ranking": "2>1=3>4", "strength": [1, 2], "criteria": {"honest": "1>2>3>4"}}
    full = {**judgment, "ratings": {"1": 3}, "flags": {"4": ["rude"]}, "rationale": "Because.", "confidence": 2}
    full["spans"] = {"1": [{"start": 0, "end": 1, "category": "wrong", "text": "a"}]}
    lines = [
        *[house(f"Question {n}?\n\u2028é", "2>1", "1>2", completions=["One.", "Two.\n\n"]) for n in range(40)],
        house("Four?", judgments=[full], completions=[{"text": text, "model": "gpt-x"} for text in "abcd"]),
        house("Tie?", "1=2"),
        house("Bad?", judgments=[{"all_bad": True}]),
    ]
    import_lines(session_factory, campaign, lines, tmp_path)
    judge_generated(session, campaign, "Made here?")
    demonstrate(session, campaign, "Show me.", "Like this.")
    return make_snapshot(session_factory, settings, campaign=campaign)


def test_the_trainer_reads_a_snapshot_that_the_app_wrote(snapshot: Snapshot) -> None:
    assert snapshot.path is not None
    assert snapshot.rows_sha256 is not None
    assert snapshot.counts is not None
    read = read_snapshot(Path(snapshot.path), rows_sha256=snapshot.rows_sha256)
    counts = snapshot.counts
    assert (len(read.train), len(read.held_out)) == (counts["rankings_train"], counts["rankings_eval"])
    train, dropped = ranked_texts(read.train)
    held_out, dropped_there = ranked_texts(read.held_out)
    pairs = [sum(len(ranking.pairs) for ranking in side) for side in (train, held_out)]
    assert pairs == [counts["pairs_train"], counts["pairs_eval"]]
    assert pairs[1] > 0
    dropped.update(dropped_there)
    # The four-way ranking holds one tie among its six pairs, and one ranking by a criterion.
    assert dropped == {"tie": 2, "all_bad": 1, "criterion": 1}
    assert sum(ranking.all_bad for ranking in [*read.train, *read.held_out]) == 1
    verdicts = [ranking.verdict for ranking in [*train, *held_out]]
    assert {verdict.weight / (len(verdict.ranks) - 1) for verdict in verdicts} == {0.5, 1.0, 1 / 3}
    made_here = next(each for each in [*train, *held_out] if each.prompt[-1].content == "Made here?")
    assert [turn.role for turn in made_here.prompt] == ["system", "user"]


def test_the_trainer_refuses_another_hash_and_a_changed_folder(snapshot: Snapshot) -> None:
    folder = Path(snapshot.path or "")
    with pytest.raises(SnapshotError):
        read_snapshot(folder, rows_sha256="0" * 64)
    rankings = folder / RANKINGS_TRAIN_FILE
    rankings.write_bytes(rankings.read_bytes() + b"!")
    with pytest.raises(SnapshotError):
        read_snapshot(folder, rows_sha256=snapshot.rows_sha256 or "")


def test_datasets_loads_each_file_with_the_columns_of_the_contract(snapshot: Snapshot, tmp_path: Path) -> None:
    folder = Path(snapshot.path or "")
    schemas = {
        JUDGMENTS_FILE: judgments_schema(),
        RANKINGS_TRAIN_FILE: rankings_schema(),
        RANKINGS_EVAL_FILE: rankings_schema(),
        DEMONSTRATIONS_FILE: demonstrations_schema(),
    }
    for name, schema in schemas.items():
        loaded = load_dataset(
            "parquet", data_files=str(folder / name), split="train", cache_dir=str(tmp_path / f"cache-{name}")
        )
        assert loaded.column_names == schema.names
    rows = load_dataset(
        "parquet", data_files=str(folder / JUDGMENTS_FILE), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(rows) == (snapshot.counts or {})["judgments"]
    assert set(rows["source"]) == {"import", "palate"}


def test_datasets_finds_the_parts_that_the_card_names(
    session: Session, session_factory: Sessions, settings: Settings, snapshot: Snapshot, tmp_path: Path
) -> None:
    counts = snapshot.counts or {}
    sizes = {"train": counts["rankings_train"], "test": counts["rankings_eval"]}
    assert loaded_sizes(snapshot, "rankings", tmp_path) == sizes
    assert loaded_sizes(snapshot, "demonstrations", tmp_path) == {"train": 1}

    campaign = make_campaign(session)
    session.commit()
    import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    tiny = make_snapshot(session_factory, settings, campaign=campaign)
    assert loaded_sizes(tiny, "rankings", tmp_path) in ({"train": 1}, {"test": 1})
    with pytest.raises(ValueError, match="demonstrations"):
        loaded_sizes(tiny, "demonstrations", tmp_path)


def loaded_sizes(snapshot: Snapshot, part: str, tmp_path: Path) -> dict[str, int]:
    loaded = load_dataset(snapshot.path or "", part, cache_dir=str(tmp_path / f"cache-{snapshot.id}"))
    return {name: len(rows) for name, rows in loaded.items()}


def test_trl_trains_on_the_preference_file(
    session: Session, settings: Settings, snapshot: Snapshot, tmp_path: Path
) -> None:
    from trl import DPOConfig, DPOTrainer
    from trl.data_utils import is_conversational

    from tests.factories.serving import random_model, save

    snapshot_id = session.scalars(select(Snapshot.id)).one()
    files = {
        split: str(exports_folder(settings, snapshot_id) / f"trl-preference.{split}.jsonl")
        for split in ("train", "eval")
    }
    loaded = load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert is_conversational(loaded["train"][0])
    assert loaded["train"].column_names == ["prompt", "chosen", "rejected"]
    model, tokenizer = random_model()
    folder = save(tmp_path / "model", (model, tokenizer))
    arguments = DPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
    )
    trainer = DPOTrainer(
        model=str(folder),
        args=arguments,
        train_dataset=loaded["train"],
        eval_dataset=loaded["eval"],
        processing_class=tokenizer,
    )
    assert len(trainer.train_dataset) == len(loaded["train"]) > 0
    assert trainer.train().training_loss > 0
