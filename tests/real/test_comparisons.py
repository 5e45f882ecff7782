"""Real preference data: converted, imported, frozen and read by the trainer."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.comparisons.models import Comparison, Judgment
from app.datasets.service.comparison_import import import_comparisons
from app.generation.models import Import
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import make_snapshot
from tests.real.converters import Convert, convert_file, hh_rlhf, llmbar, oasst, pandalm, qa_feedback
from trainer.rankings import ranked_texts
from trainer.snapshot import read_snapshot

pytestmark = pytest.mark.real

Sessions = sessionmaker[Session]


def brought_in(
    session: Session, session_factory: Sessions, source: Path, convert: Convert, folder: Path
) -> tuple[Counter[str], Import]:
    campaign = make_campaign(session)
    session.commit()
    target = folder / "house.jsonl"
    figures = convert_file(source, target, convert)
    done = import_comparisons(session_factory, campaign_id=campaign.id, path=target, by_id=None, clock=lambda: NOW)
    reasons = Counter(rejection["reason"] for rejection in done.rejections)
    print(f"\n{source.name}: {dict(figures)}; imported {done.counts}; refused {dict(reasons)}")
    return figures, done


def test_hh_rlhf_is_imported_frozen_and_read(
    session: Session, session_factory: Sessions, settings: Settings, real_data: Path, tmp_path: Path
) -> None:
    source = real_data / "preferences" / "hh_rlhf_harmless_base_test_part1.jsonl.gz"
    figures, done = brought_in(session, session_factory, source, hh_rlhf, tmp_path)
    assert figures == {"rows": 1205, "lines": 1203, "the dialogues differ before the last turn": 2}
    empty = [each for each in done.rejections if "is empty" in each["reason"]]
    assert len(empty) == 4
    counts = done.counts
    assert counts["added"] + counts["duplicates"] + counts["rejected"] == 1203
    assert counts["judgments"] == counts["added"] == len(session.scalars(select(Judgment.id)).all())
    campaign = session.get_one(Comparison, session.scalars(select(Comparison.id)).first()).campaign
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    print(f"frozen: {snapshot.counts}")
    read = read_snapshot(Path(snapshot.path or ""), rows_sha256=snapshot.rows_sha256 or "")
    ranked, dropped = ranked_texts([*read.train, *read.held_out])
    assert (sum(len(each.pairs) for each in ranked), dropped) == (counts["added"], {})


@pytest.mark.parametrize(
    ("name", "convert", "rows", "added"),
    [
        ("qa_feedback_four_way_part1.jsonl.gz", qa_feedback, 309, 384),
        ("pandalm_three_annotators_part1.jsonl.gz", pandalm, 430, 401),
        ("llmbar_natural_neighbor.jsonl.gz", llmbar, 234, 234),
        ("oasst_en_100_tree.jsonl.gz", oasst, 100, 212),
    ],
)
def test_every_line_of_the_other_sources_is_accounted_for(
    *,
    session: Session,
    session_factory: Sessions,
    real_data: Path,
    tmp_path: Path,
    name: str,
    convert: Convert,
    rows: int,
    added: int,
) -> None:
    figures, done = brought_in(session, session_factory, real_data / "preferences" / name, convert, tmp_path)
    counts = done.counts
    assert figures["rows"] == rows
    assert counts["lines"] == figures["lines"] == counts["added"] + counts["duplicates"] + counts["rejected"]
    assert counts["added"] == added


def test_qa_feedback_is_a_ranking_but_for_fifteen_questions(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "preferences" / "qa_feedback_four_way_part1.jsonl.gz"
    figures = convert_file(source, tmp_path / "house.jsonl", qa_feedback)
    assert figures["lines"] == (309 - 15) + 15 * 6
