"""What is exported in the house format and loaded again is the same."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.datasets.service.house_export import export_house_jsonl
from app.generation.normalising import messages_sha256, text_sha256
from app.pseudonyms import Pseudonyms
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import import_lines, judge_generated

Sessions = sessionmaker[Session]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30).filter(
    lambda text: text.strip() and text.split()
)


def exported(session_factory: Sessions, campaign: Campaign, *, with_rationales: bool = True) -> list[bytes]:
    with session_factory() as session:
        return list(
            export_house_jsonl(
                session,
                campaign_id=campaign.id,
                as_of=NOW,
                pseudonyms=Pseudonyms(b"secret"),
                with_rationales=with_rationales,
            )
        )


@st.composite
def rankings(draw: st.DrawFn, count: int) -> str:
    """A ranking of positions, ties in ascending order."""
    ranks = draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    groups = [[place + 1 for place in range(count) if ranks[place] == rank] for rank in sorted(set(ranks))]
    return ">".join("=".join(map(str, group)) for group in groups)


moments = st.integers(0, 10**15).map(
    lambda since: (NOW - timedelta(microseconds=since)).isoformat().replace("+00:00", "Z")
)


@st.composite
def spans(draw: st.DrawFn, written: list[str]) -> dict[str, Any]:
    """Spans of some completions as they are exported: in order, none of a category over another of it."""
    found: dict[str, Any] = {}
    for place, text in enumerate(written, start=1):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
        stretches = list(zip(cuts[::2], cuts[1::2], strict=False))
        categories = draw(st.lists(texts, min_size=len(stretches), max_size=len(stretches)))
        given = sorted((start, end, name) for (start, end), name in zip(stretches, categories, strict=True))
        if given:
            found[str(place)] = [
                {"start": start, "end": end, "category": name, "text": text[start:end]} for start, end, name in given
            ]
    return found


@st.composite
def judgments(draw: st.DrawFn, written: list[str]) -> dict[str, Any]:
    count = len(written)
    ranking = draw(st.none() | rankings(count))
    judgment: dict[str, Any] = {}
    if ranking is None or draw(st.booleans()):
        judgment["all_bad"] = True
    if ranking is not None:
        judgment["ranking"] = ranking
        if ">" in ranking and draw(st.booleans()):
            steps = [draw(st.integers(0, 9)) for _ in range(ranking.count(">"))]
            judgment["strength"] = steps[0] if len(steps) == 1 else steps
    places = st.integers(1, count).map(str)
    optional = {
        "criteria": st.dictionaries(texts, rankings(count), min_size=1, max_size=2),
        "ratings": st.dictionaries(places, st.floats(-1e6, 1e6), min_size=1),
        "flags": st.dictionaries(places, st.lists(texts, min_size=1, max_size=2), min_size=1),
        "spans": spans(written),
        "rationale": texts,
        "confidence": st.integers(1, 5),
        "active_ms": st.integers(0, 2**31 - 1),
        "surplus": st.just(True),
    }
    for name, values in optional.items():
        if draw(st.booleans()) and (drawn := draw(values)) != {}:
            judgment[name] = drawn
    judgment["judged_at"] = draw(moments)
    if draw(st.booleans()):
        judgment["demonstration"] = {"text": draw(texts), "corrects": draw(st.integers(1, count))}
        judgment["demonstration"]["written_at"] = draw(moments)
    return judgment


@st.composite
def house_lines(draw: st.DrawFn) -> dict[str, Any]:
    """A line in the form in which it is exported."""
    messages = [{"role": draw(st.sampled_from(["system", "assistant"])), "content": draw(texts)}]
    question = draw(texts)
    prompt = draw(st.sampled_from([question, [*messages, {"role": "user", "content": question}]]))
    completions: list[Any] = draw(st.lists(texts, min_size=2, max_size=5, unique_by=text_sha256))
    for place, text in enumerate(completions):
        if draw(st.booleans()):
            completions[place] = {"text": text, "model": draw(texts)}
    people = draw(st.lists(texts.filter(lambda name: name != "unknown"), max_size=3, unique=True))
    written = [each if isinstance(each, str) else each["text"] for each in completions]
    given = [{"annotator": name, **draw(judgments(written))} for name in people]
    counted = sum("surplus" not in judgment for judgment in given)
    line: dict[str, Any] = {"id": draw(texts), "prompt": prompt, "completions": completions}
    if given:
        line["judgments"] = given
    if draw(st.booleans()):
        line["tags"] = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        line["metadata"] = draw(st.dictionaries(texts, st.integers(-(2**40), 2**40) | texts, min_size=1, max_size=3))
    line["redundancy"] = draw(st.integers(max(1, counted), 25))
    return line


def prompt_identity(line: dict[str, Any]) -> str:
    prompt = line["prompt"]
    return messages_sha256([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(house_lines(), min_size=1, max_size=4, unique_by=prompt_identity))
def test_import_then_export_gives_the_same_lines(
    session: Session, session_factory: Sessions, tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    campaign = make_campaign(session)
    session.commit()
    done = import_lines(session_factory, campaign, lines, tmp_path)
    assert done.rejections == []
    assert [json.loads(line) for line in exported(session_factory, campaign)] == lines


def test_export_then_import_then_export_gives_the_same_bytes(
    session: Session, session_factory: Sessions, tmp_path: Path
) -> None:
    first, second = make_campaign(session), make_campaign(session)
    session.commit()
    at = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC).isoformat()
    lines = [
        {
            "prompt": "Which?",
            "completions": [{"content": "A", "sampling": {"seed": 0, "temperature": 0}}, "B", "C"],
            "judgments": [
                {"ranking": " 3 = 1 > 2 ", "strength": [0], "judged_at": at},
                {"all_bad": True, "judged_at": at, "rationale": "None of them."},
            ],
        },
        {"prompt": "And this?", "completions": ["A", "B"]},
    ]
    import_lines(session_factory, first, lines, tmp_path)
    once = exported(session_factory, first)
    import_lines(session_factory, second, [line.decode() for line in once], tmp_path)
    assert exported(session_factory, second) == once
    assert json.loads(once[0])["judgments"][0] == {
        "ranking": "1=3>2",
        "strength": 0,
        "judged_at": "2025-01-02T03:04:05.678901Z",
    }
    assert b"rationale" not in exported(session_factory, first, with_rationales=False)[0]


def test_what_was_generated_and_judged_here_comes_back_the_same_under_pseudonyms(
    session: Session, session_factory: Sessions, tmp_path: Path
) -> None:
    here, there = make_campaign(session), make_campaign(session)
    annotator = make_user(session, name="Gwendolyn")
    for number in range(3):
        judge_generated(session, here, f"Number {number}?", by=annotator, first_is_better=number > 0, active_ms=0)
    once = exported(session_factory, here)
    import_lines(session_factory, there, [line.decode() for line in once], tmp_path)
    assert exported(session_factory, there) == once
    judgments = [json.loads(line)["judgments"][0] for line in once]
    assert [judgment["ranking"] for judgment in judgments] == ["2>1", "1>2", "1>2"]
    assert {judgment["annotator"] for judgment in judgments} == {Pseudonyms(b"secret").of_user(annotator.id)}
    assert {judgment["active_ms"] for judgment in judgments} == {0}
