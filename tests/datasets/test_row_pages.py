"""Looking at the rows of a snapshot: every row of every file, filtered and paged, without Parquet in the pages."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import ArrowInvalid
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.campaigns.models import Access, Campaign
from app.datasets import jobs, row_pages
from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot
from app.datasets.row_pages import CHUNK, FILES, RowFilter, RowPage, RowsOf, lay_out_rows, read_page
from app.settings import Settings
from tests.conftest import SignedIn
from tests.datasets.test_jobs import run
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import demonstrate, house, import_lines, judge_generated, make_snapshot

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session)
    session.commit()
    return campaign


@pytest.fixture
def snapshot(
    session: Session, session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> Snapshot:
    """Seventy judgments: ties, all bad, surplus, some with a criterion, one made here; and a demonstration."""
    lines: list[Any] = [house(f"Question {n}?", ("1>2", "1=2", "2>1")[n % 3]) for n in range(60)]
    lines += [house(f"Bad {n}?", judgments=[{"annotator": "x", "all_bad": True}]) for n in range(5)]
    late = house("Late?", "1>2", "2>1", redundancy=1)
    late["judgments"][1]["surplus"] = True
    late["judgments"][0]["criteria"] = {"honest": "2>1"}
    import_lines(session_factory, campaign, [*lines, late], tmp_path)
    judge_generated(session, campaign, "Ours?")
    demonstrate(session, campaign, "Say hello.", "Hello!")
    return make_snapshot(session_factory, settings, campaign=campaign, include_surplus=True)


def laid_out(settings: Settings, snapshot: Snapshot) -> Path:
    assert snapshot.path is not None
    exports = exports_folder(settings, snapshot.id)
    lay_out_rows(Path(snapshot.path), exports)
    return exports


def all_pages(exports: Path, which: RowsOf, wanted: RowFilter) -> list[RowPage]:
    pages = [read_page(exports, which, wanted=wanted, page=1)]
    while pages[-1].number < pages[-1].last_number:
        pages.append(read_page(exports, which, wanted=wanted, page=pages[-1].number + 1))
    return pages


@pytest.mark.parametrize("block", [7, 64 * 1024])
def test_every_row_of_every_file_is_on_one_page_and_only_there(
    settings: Settings, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(row_pages, "BLOCK", block)
    exports = laid_out(settings, snapshot)
    for which, name in FILES.items():
        stored = pq.read_table(Path(snapshot.path or "") / name).to_pylist()
        pages = all_pages(exports, which, RowFilter())
        assert [number for page in pages for number in page.numbers] == list(range(1, len(stored) + 1))
        assert {page.total for page in pages} == {len(stored)}
        key = "judgment_id" if which is RowsOf.JUDGMENTS else "prompt_id"
        assert [row[key] for page in pages for row in page.rows] == [row[key] for row in stored]
    assert len(all_pages(exports, RowsOf.JUDGMENTS, RowFilter())) > 3


@pytest.mark.parametrize("block", [7, 64 * 1024])
@pytest.mark.parametrize(
    ("wanted", "means"),
    [
        (RowFilter(split="train"), lambda row: row["split"] == "train"),
        (RowFilter(verdict="tie"), lambda row: len(row["ranking"] or []) == 1 and not row["all_bad"]),
        (RowFilter(verdict="all_bad"), lambda row: row["all_bad"]),
        (RowFilter(verdict="decided", split="eval"), lambda r: len(r["ranking"] or []) > 1 and r["split"] == "eval"),
        (RowFilter(only="surplus"), lambda row: row["surplus"]),
        (RowFilter(only="imported"), lambda row: row["source"] == "import"),
        (RowFilter(only="rejected"), lambda row: row["rejected"]),
        (RowFilter(split="both", verdict="?", only="x"), lambda row: True),
    ],
)
def test_a_filter_finds_what_reading_all_rows_finds(
    settings: Settings, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, block: int, wanted: RowFilter, means: Any
) -> None:
    monkeypatch.setattr(row_pages, "BLOCK", block)
    pages = all_pages(laid_out(settings, snapshot), RowsOf.JUDGMENTS, wanted)
    stored = pq.read_table(Path(snapshot.path or "") / "judgments.parquet").to_pylist()
    expected = [number for number, row in enumerate(stored, start=1) if means(row)]
    assert [number for page in pages for number in page.numbers] == expected
    assert {page.total for page in pages} == {len(expected)}
    assert all(len(page.rows) <= CHUNK for page in pages)


def test_rankings_by_a_criterion_are_told_apart(settings: Settings, snapshot: Snapshot) -> None:
    exports = laid_out(settings, snapshot)
    found = [
        row["criterion"]
        for which in (RowsOf.RANKINGS_TRAIN, RowsOf.RANKINGS_EVAL)
        for page in all_pages(exports, which, RowFilter(only="criterion"))
        for row in page.rows
    ]
    assert found == ["honest"]


def test_the_page_asks_the_worker_once_waits_and_then_shows_the_rows(
    session: Session, settings: Settings, signed_in: SignedIn, campaign: Campaign, snapshot: Snapshot
) -> None:
    reader = make_user(session, Role.RESEARCHER)
    enrol(session, reader, campaign, judges=False, access=Access.RESEARCH)
    session.commit()
    browser = signed_in(reader)
    for _ in range(2):
        waiting = browser.get(f"/snapshots/{snapshot.id}/rows/judgments").text
        assert 'hx-trigger="every 1s"' in waiting
    asked = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'datasets:lay_out_rows'"
    assert session.scalar(text(asked)) == 1
    laid_out(settings, snapshot)
    page = browser.get(f"/snapshots/{snapshot.id}/rows/judgments?verdict=tie&page=999").text
    assert "20 rows, page 1 of 1" in page
    assert "every 1s" not in page
    assert "Hello!" in browser.get(f"/snapshots/{snapshot.id}/rows/demonstrations").text
    assert "No row is like that." in browser.get(f"/snapshots/{snapshot.id}/rows/judgments?only=rejected").text
    assert browser.get(f"/snapshots/{snapshot.id}/rows/secrets").status_code in {404, 422}
    assert f"/snapshots/{snapshot.id}/rows/judgments" in browser.get(f"/snapshots/{snapshot.id}").text


def test_rows_that_cannot_be_laid_out_say_so_and_are_tried_again_on_demand(
    session: Session,
    session_factory: Sessions,
    settings: Settings,
    signed_in: SignedIn,
    snapshot: Snapshot,
) -> None:
    address = f"/snapshots/{snapshot.id}/rows/judgments"
    assert snapshot.path is not None
    judgments = Path(snapshot.path) / FILES[RowsOf.JUDGMENTS]
    whole = judgments.read_bytes()
    judgments.write_bytes(b"no Parquet")
    browser = signed_in(make_user(session, Role.ADMIN))
    browser.get(address)
    with pytest.raises(ArrowInvalid):
        run(jobs.lay_out_rows, session_factory, settings, snapshot_id=snapshot.id)
    poll = browser.get(address, headers={"HX-Request": "true"}).text
    assert "could not be laid out" in poll
    assert "every 1s" not in poll
    judgments.write_bytes(whole)
    assert "every 1s" in browser.get(address).text
    run(jobs.lay_out_rows, session_factory, settings, snapshot_id=snapshot.id)
    assert "page 1 of" in browser.get(address, headers={"HX-Request": "true"}).text
