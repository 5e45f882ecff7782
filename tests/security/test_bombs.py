"""Files that are small to send and large to read, as whoever manages a campaign might be handed them."""

import gzip
import time
import tracemalloc
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.campaigns.models import Campaign
from app.datasets.service.comparison_import import import_comparisons
from app.errors import Invalid
from app.generation.models import ImportState
from app.generation.service.imports import import_prompts
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign

DEEP = 100_000
LINES = {
    "deep lists": b'{"prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"prompt": "x", "metadata": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep, never closed": b"[" * DEEP,
    "a huge number": b'{"prompt": "x", "id": ' + b"9" * DEEP + b"}",
    "a number without end": b'{"prompt": "x", "metadata": {"a": 1e999999}}',
    "a lone surrogate": b'{"prompt": "\\ud800", "completions": ["a", "\\udfff"]}',
    "a million names": b'{"prompt": "x", "metadata": {' + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}}",
    "one name again and again": b'{"prompt": "x"' + b', "prompt": "y"' * 20_000 + b"}",
    "a megabyte of combining marks": b'{"prompt": "' + "\u0301".encode() * 400_000 + b'"}',
}
GOOD = b'{"prompt": "What is rain?", "completions": ["Water.", "Wet."]}'


@pytest.fixture
def campaign(session: Session) -> Campaign:
    made = make_campaign(session)
    session.commit()
    return made


@pytest.mark.parametrize("kind", ["prompts", "comparisons"])
@pytest.mark.parametrize("name", LINES)
def test_a_hostile_line_is_reported_or_taken_and_the_good_ones_load(
    session_factory: sessionmaker[Session], campaign: Campaign, tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(GOOD + b"\n" + LINES[name] + b"\n")
    load = {"prompts": import_prompts, "comparisons": import_comparisons}[kind]
    began = time.process_time()
    done = load(session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=lambda: NOW)
    assert time.process_time() - began < 10
    assert done.state is ImportState.DONE, done.message
    assert done.counts["added"] + done.counts["rejected"] + done.counts.get("duplicates", 0) == 2
    assert done.counts["added"] >= 1


@pytest.mark.parametrize(
    "content", [b"text\n" + b"a" * 3_000_000 + b"\n", b'text\n"' + b"a\n" * 400_000], ids=["one line", "many lines"]
)
def test_a_huge_csv_cell_is_reported_and_not_held(
    session_factory: sessionmaker[Session], campaign: Campaign, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "cells.csv"
    path.write_bytes(content.replace(b"text", b"prompt", 1) + b"\nWhat is snow?\n")
    done = import_prompts(session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=lambda: NOW)
    assert done.state is ImportState.DONE
    assert done.counts["rejected"] >= 1


def test_a_gzip_bomb_is_read_in_little_memory_up_to_the_limit(
    session_factory: sessionmaker[Session], campaign: Campaign, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(300):
            file.write(b"\0" * 2**20)
    assert path.stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(Invalid, match="unpacks to more than 100 MB"):
        import_prompts(
            session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=lambda: NOW, most_bytes=100 * 2**20
        )
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30 * 2**20
