"""Loading comparisons in the house format."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.comparisons.models import Comparison, ComparisonCompletion, Judgment, Slot
from app.datasets.house import parse_line
from app.datasets.service import comparison_import
from app.datasets.service.comparison_import import load_comparisons
from app.errors import Invalid, NotFound
from app.generation.models import Completion, Import, ImportKind, ImportState, Prompt, Split
from app.generation.normalising import messages_sha256, split_of
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import house, import_lines, write_lines
from tests.factories.generation import make_import

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session, redundancy=2)
    session.commit()
    return campaign


def total(session: Session, table: type[Any]) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_line_becomes_a_comparison_with_prompt_completions_slots_and_judgments(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    line = {
        "id": "hh-7",
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}],
        "completions": ["Hi!", {"text": "What?", "model": "gpt-x", "sampling": {"temperature": 0.7, "seed": 0}}],
        "tags": ["greeting"],
        "metadata": {"topic": 3},
        "judgments": [
            {
                "annotator": "ann",
                "ranking": "2>1",
                "strength": 3,
                "criteria": {"helpful": "1=2"},
                "ratings": {"1": 2},
                "flags": {"2": ["rude"]},
                "rationale": "It asks back.",
                "confidence": 4,
                "active_ms": 1200,
                "judged_at": "2026-01-02T03:04:05+01:00",
            }
        ],
    }
    import_lines(session_factory, campaign, [line], tmp_path)
    comparison = session.scalars(select(Comparison)).one()
    first, second = (member.completion for member in comparison.members)
    judgment = session.scalars(select(Judgment)).one()
    assert comparison.external_id == "hh-7"
    assert comparison.prompt.messages == line["prompt"]
    assert (comparison.prompt.tags, comparison.prompt.details) == (["greeting"], {"topic": 3})
    assert comparison.prompt.split == Split(split_of(messages_sha256(line["prompt"])))
    assert (first.text, first.model_label, second.model_label) == ("Hi!", None, "gpt-x")
    assert (second.temperature, second.seed) == (0.7, 0)
    assert judgment.ranking == [[second.id], [first.id]]
    assert judgment.external_annotator == "ann"
    assert judgment.strengths == [3]
    assert judgment.criteria == {"helpful": [sorted([first.id, second.id])]}
    assert judgment.ratings == {str(first.id): 2.0}
    assert judgment.flags == {str(second.id): ["rude"]}
    assert judgment.judged_at.isoformat() == "2026-01-02T02:04:05+00:00"
    assert [(slot.number, slot.judgment_id) for slot in comparison.slots] == [(1, judgment.id), (2, None)]


def test_a_comparison_without_judgments_leaves_all_its_slots_to_annotators(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?")], tmp_path)
    assert [slot.judgment_id for slot in session.scalars(select(Slot))] == [None, None]


def test_more_judgments_than_the_campaign_wants_get_a_slot_each(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2", "2>1", "1=2")], tmp_path)
    assert session.scalars(select(Comparison)).one().redundancy == 3
    assert all(slot.judgment_id is not None for slot in session.scalars(select(Slot)))


def test_surplus_judgments_stay_surplus(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    line = house("Why?", "1>2", "2>1", redundancy=1)
    line["judgments"][1]["surplus"] = True
    import_lines(session_factory, campaign, [line], tmp_path)
    first, second = session.scalars(select(Judgment).order_by(Judgment.id))
    assert (first.surplus, second.surplus) == (False, True)
    assert [slot.judgment_id for slot in session.scalars(select(Slot))] == [first.id]


BAD_LINES = [
    ("{", "not valid JSON"),
    ("[1]", "must be a JSON object"),
    (house("Why?", judgements=[]), "unknown field judgements"),
    ({"prompt": "Why?"}, "completions is missing"),
    (house("Why?", completions=["One."]), "at least 2 items"),
    (house("Why?", completions=["One.", "  one. "]), "two completions are the same text"),
    (house("Why?", completions=["One.", " "]), "completion 2 is empty"),
    (house("   "), "must end in a user turn"),
    ({"prompt": [{"role": "assistant", "content": "Hi"}], "completions": ["a", "b"]}, "must end in a user turn"),
    ({"prompt": [{"role": "robot", "content": "Hi"}], "completions": ["a", "b"]}, "prompt.0.role"),
    (house("Why?", "3>1"), "names each position from 1 to 2 once"),
    (house("Why?", judgments=[{"annotator": "a"}]), "needs a ranking, or all_bad"),
    (house("Why?", judgments=[{"ranking": "1>2", "strength": [1, 2]}]), "one number for each step"),
    (house("Why?", judgments=[{"ranking": "1>2", "ratings": {"3": 1}}]), "no completion '3'"),
    (house("Why?", judgments=[{"ranking": "1>2", "ratings": {"²": 1}}]), "no completion '²'"),
    (house("Why?", judgments=[{"annotator": "a", "ranking": "1>2"}] * 2), "two judgments of one"),
    (house("Why?", judgments=[{"ranking": "1>2"}] * 26), "at most 25 judgments"),
    (house("Why?", judgments=[{"ranking": "1>2", "judged_at": "2999-01-01T00:00:00Z"}]), "in the future"),
    (house("Wh\x00y?"), "NUL character"),
    (house("Why?", metadata={"big": 2**70}), "metadata cannot be stored"),
    ('{"prompt": "\\ud800", "completions": ["a", "b"]}', "not valid JSON"),
]


@pytest.mark.parametrize("case", BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_a_bad_line_is_reported_with_number_and_reason_while_the_good_ones_load(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path, case: tuple[Any, str]
) -> None:
    line, reason = case
    done = import_lines(session_factory, campaign, [house("Before?"), "", line, house("After?")], tmp_path)
    assert {name: done.counts[name] for name in ("lines", "added", "rejected")} == {
        "lines": 3,
        "added": 2,
        "rejected": 1,
    }
    assert done.rejections[0]["line"] == 3
    assert reason in done.rejections[0]["reason"]
    assert total(session, Comparison) == 2


def test_an_escaped_backslash_before_u0000_is_no_nul(
    session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    done = import_lines(session_factory, campaign, [house("What is \\u0000?")], tmp_path)
    assert done.counts["added"] == 1


def test_the_same_prompt_and_set_of_completions_is_taken_once(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [
        house("Why?", completions=["One.", "Two."]),
        house(" WHY? ", completions=["two.", "One."]),
        house("Why?", completions=["One.", "Three."]),
    ]
    first = import_lines(session_factory, campaign, lines, tmp_path)
    again = import_lines(session_factory, campaign, lines, tmp_path)
    assert [first.counts[name] for name in ("added", "prompts", "duplicates")] == [2, 1, 1]
    assert [again.counts[name] for name in ("added", "prompts", "duplicates")] == [0, 0, 3]
    assert total(session, Prompt) == 1


def test_the_same_texts_by_other_models_are_another_comparison(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    pairs = [("a", "b"), ("b", "a"), ("a", None), ("a", "b")]
    lines = [
        house("Why?", completions=[{"text": "One.", "model": first}, {"text": "Two.", "model": second}])
        for first, second in pairs
    ]
    done = [import_lines(session_factory, campaign, lines, tmp_path).counts for _ in range(2)]
    assert [(counts["added"], counts["duplicates"]) for counts in done] == [(3, 1), (0, 4)]


def test_tags_and_metadata_of_a_known_prompt_are_added_to_its_own(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", tags=["a"], metadata={"x": 1})], tmp_path)
    more = house("Why?", completions=["A", "B"], tags=["b", "a"], metadata={"x": 2, "y": 3})
    import_lines(session_factory, campaign, [more], tmp_path)
    prompt = session.scalars(select(Prompt)).one()
    assert (prompt.tags, prompt.details) == (["a", "b"], {"x": 1, "y": 3})


def test_an_import_that_died_goes_on_after_its_last_whole_batch(
    session: Session,
    session_factory: Sessions,
    campaign: Campaign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison_import, "BATCH_LINES", 10)
    record = make_import(session, campaign, kind=ImportKind.COMPARISONS, state=ImportState.WAITING, counts={})
    session.commit()
    path = write_lines(tmp_path / "lines.jsonl", [*[house(f"{n}?", "1>2") for n in range(34)], "bad"])

    def die(counts: dict[str, Any]) -> None:
        if counts["lines"] == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_comparisons(session_factory, import_id=record.id, path=path, clock=lambda: NOW, progress=die)
    load_comparisons(session_factory, import_id=record.id, path=path, clock=lambda: NOW)
    load_comparisons(session_factory, import_id=record.id, path=path, clock=lambda: NOW)
    session.expire_all()
    finished = session.get_one(Import, record.id)
    assert finished.state is ImportState.DONE
    assert finished.counts == {
        "lines": 35,
        "added": 34,
        "judgments": 34,
        "prompts": 34,
        "duplicates": 0,
        "rejected": 1,
        "share_read": 1.0,
    }
    assert total(session, Comparison) == 34


def test_gzip_is_read_and_a_damaged_file_keeps_what_came_before(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    lines = [house(f"{n}?") for n in range(3000)]
    assert import_lines(session_factory, campaign, lines[:5], tmp_path, packed=True).counts["added"] == 5
    path = write_lines(tmp_path / "cut.jsonl.gz", lines, packed=True)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Invalid, match="damaged or cut short"):
        comparison_import.import_comparisons(
            session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=lambda: NOW
        )
    assert total(session, Comparison) > 1000


def test_a_file_that_unpacks_to_too_much_is_stopped(
    session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="unpacks to more than"):
        import_lines(
            session_factory,
            campaign,
            [house("x" * 100_000) for _ in range(30)],
            tmp_path,
            packed=True,
            most_bytes=2**20,
        )


def test_an_unknown_campaign_or_file_is_named(session_factory: Sessions, campaign: Campaign, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        comparison_import.import_comparisons(
            session_factory, campaign_id=campaign.id, path=tmp_path / "none", by_id=None, clock=lambda: NOW
        )
    path = write_lines(tmp_path / "lines.jsonl", [house()])
    with pytest.raises(NotFound, match="no campaign"):
        comparison_import.import_comparisons(
            session_factory, campaign_id=10**9, path=path, by_id=None, clock=lambda: NOW
        )


def test_a_number_is_a_good_id_and_content_a_good_name_for_text() -> None:
    line = {"id": 7, "prompt": "Why?", "completions": [{"content": "One."}, "Two."]}
    comparison = parse_line(json.dumps(line).encode())
    assert (comparison.id, comparison.completions[0].text) == ("7", "One.")


def test_completions_are_kept_in_the_order_of_the_line(
    session: Session, session_factory: Sessions, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", completions=["c", "a", "b"])], tmp_path)
    query = (
        select(Completion.text)
        .join(ComparisonCompletion, ComparisonCompletion.completion_id == Completion.id)
        .order_by(ComparisonCompletion.position)
    )
    assert session.scalars(query).all() == ["c", "a", "b"]
