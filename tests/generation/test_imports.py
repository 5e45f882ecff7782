"""Files of prompts: what is taken in, what is turned away and why, and what a second attempt does."""

import gzip
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from app.audit import AuditEntry
from app.campaigns.models import Campaign
from app.errors import Invalid, NotFound
from app.generation import lines
from app.generation.models import Import, ImportKind, ImportState, Prompt, Split
from app.generation.normalising import split_of
from app.generation.service.imports import ImportProgress, begin_import, import_prompts, load_prompts
from tests.conftest import NOW, StoppedClock
from tests.factories.campaigns import make_campaign
from tests.queued import queued

ImportFile = Callable[..., Import]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session)
    session.commit()
    return campaign


@pytest.fixture
def import_file(
    session_factory: sessionmaker[Session], campaign: Campaign, clock: StoppedClock, tmp_path: Path
) -> ImportFile:
    """`import_file(content, name)` imports these bytes into the test's campaign."""

    def take_in(content: bytes, name: str = "prompts.jsonl", **given: Any) -> Import:
        path = tmp_path / name
        path.write_bytes(content)
        return import_prompts(session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=clock, **given)

    return take_in


def counts(record: Import) -> tuple[int, int, int, int]:
    return tuple(record.counts[name] for name in ("lines", "added", "duplicates", "rejected"))  # type: ignore[return-value]


def reasons(record: Import) -> dict[int, str]:
    return {rejection["line"]: rejection["reason"] for rejection in record.rejections}


def stored(session: Session) -> list[Prompt]:
    session.expire_all()
    return list(session.scalars(select(Prompt).order_by(Prompt.id)))


def test_every_way_to_write_a_line_loads(session: Session, import_file: ImportFile) -> None:
    written = [
        '"Just a text"',
        '{"prompt": "A prompt", "id": 7, "tags": "warm; kind ;warm", "category": "open", "source": "us", "n": [1]}',
        '{"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "As messages"}]}',
        '{"messages": [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"},'
        ' {"role": "user", "content": "Three"}], "tags": ["a", "b"]}',
    ]
    record = import_file("\r\n".join(written).encode())
    assert (record.state, counts(record), record.rejections) == (ImportState.DONE, (4, 4, 0, 0), [])
    text, full, system, turns = stored(session)
    assert (text.messages, text.tags, text.external_id) == ([{"role": "user", "content": "Just a text"}], [], None)
    assert (full.external_id, full.tags, full.details) == ("7", ["warm", "kind", "open"], {"source": "us", "n": [1]})
    assert [message["role"] for message in system.messages] == ["system", "user"]
    assert ([message["content"] for message in turns.messages], turns.tags) == (["One", "Two", "Three"], ["a", "b"])
    assert all(prompt.split is Split(split_of(prompt.text_sha256)) for prompt in stored(session))
    assert all(prompt.import_id == record.id for prompt in stored(session))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b'{"prompt": "\xff\xfe"}', "not valid UTF-8 at byte 13"),
        (b"7", "neither a text nor an object"),
        (b'{"text": "x"}', "has no prompt"),
        (b'{"prompt": null}', "has no prompt"),
        (b'{"prompt": "x", "messages": [{"role": "user", "content": "x"}]}', "both prompt and messages"),
        (b'{"prompt": 7}', "neither a text nor a list of messages"),
        (b'{"prompt": []}', "list of messages is empty"),
        (b'{"prompt": " \\n "}', "the prompt is empty"),
        (b'{"prompt": ["x"]}', "message 1 is not an object"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "has no role among"),
        (b'{"messages": [{"role": "user", "content": [1]}]}', "content of message 1 is not a text"),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
            "ends with a turn",
        ),
        (b'{"prompt": "x", "tags": 3}', "tags is neither"),
        (b'{"prompt": "x", "tags": ["' + b"t" * 101 + b'"]}', "more than 100 characters"),
        (b'{"prompt": "x", "id": {"a": 1}}', "id is neither"),
        (b'{"prompt": "a\\u0000b"}', "NUL character"),
        (b'{"prompt": "x", "source": {"a": ["b\\u0000"]}}', "NUL character"),
        (b'{"prompt": "\\ud800"}', "not valid JSON"),
        (b'{"prompt": "x", "source": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deeply"),
        (b'{"prompt": "' + b"x" * 50_001 + b'"}', "has 50,001 characters"),
        (b'{"prompt": "' + b"x" * lines.LONGEST_LINE + b'"}', "longer than a line may be"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_while_the_good_ones_load(
    import_file: ImportFile, line: bytes, reason: str
) -> None:
    record = import_file(b'"before"\n\n' + line + b'\n"after"\n')
    assert (record.state, counts(record)) == (ImportState.DONE, (3, 2, 0, 1))
    assert reasons(record).keys() == {3}, "blank lines count as lines of the file"
    assert reason in reasons(record)[3]


def test_duplicates_are_dropped_and_counted_within_the_file_and_against_the_campaign(
    session: Session, import_file: ImportFile
) -> None:
    assert counts(import_file(b'"Hello there"\n"HELLO   there"\n"Bye"\n')) == (3, 2, 1, 0)
    assert counts(import_file(b'"bye"\n"New"\n')) == (2, 1, 1, 0)
    assert [prompt.messages[0]["content"] for prompt in stored(session)] == ["Hello there", "Bye", "New"]


def test_the_same_prompt_may_be_in_two_campaigns(
    session: Session,
    session_factory: sessionmaker[Session],
    import_file: ImportFile,
    clock: StoppedClock,
    tmp_path: Path,
) -> None:
    import_file(b'"Hello"\n')
    other = make_campaign(session)
    session.commit()
    path = tmp_path / "prompts.jsonl"
    record = import_prompts(session_factory, campaign_id=other.id, path=path, by_id=None, clock=clock)
    assert counts(record) == (1, 1, 0, 0)


def test_a_byte_order_mark_and_foreign_line_ends_are_no_part_of_a_prompt(
    session: Session, import_file: ImportFile
) -> None:
    import_file(b"\xef\xbb\xbf" + '{"prompt": "Grüße\\r\\nan alle"}\r\n'.encode())
    (prompt,) = stored(session)
    assert prompt.messages[0]["content"] == "Grüße\nan alle"


def test_csv_columns_become_prompt_tags_and_metadata(session: Session, import_file: ImportFile) -> None:
    content = '\ufeffid,Question,tags,category,source\r\n1,"Two\r\nlines, ""quoted""",a; b,open,us\r\n,Second,,,\r\n'
    record = import_file(content.encode(), "prompts.csv")
    assert counts(record) == (2, 2, 0, 0)
    first, second = stored(session)
    assert first.messages[0]["content"] == 'Two\nlines, "quoted"'
    assert (first.external_id, first.tags, first.details) == ("1", ["a", "b", "open"], {"source": "us"})
    assert (second.external_id, second.tags, second.details) == (None, [], {})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_from_the_header(session: Session, import_file: ImportFile, delimiter: str) -> None:
    import_file(f"tags{delimiter}prompt\nx{delimiter}What?\n".encode(), "prompts.csv")
    (prompt,) = stored(session)
    assert (prompt.messages[0]["content"], prompt.tags) == ("What?", ["x"])


def test_bad_csv_rows_are_reported_by_the_line_they_start_on(import_file: ImportFile) -> None:
    rows = [
        b"prompt,source",
        b'"Good, with',
        b'two lines",us',
        b"unquoted, comma,us",
        b"caf\xe9,us",
        b",us",
        b'"x"y,us',
        b"x" * (lines.LONGEST_LINE + 1) + b",us",
        b"Good too",
    ]
    record = import_file(b"\n".join(rows), "prompts.csv")
    assert counts(record) == (7, 2, 0, 5)
    said = reasons(record)
    assert said.keys() == {4, 5, 6, 7, 8}
    for line, reason in {4: "3 cells", 5: "UTF-8", 6: "empty", 7: "not valid CSV", 8: "longer"}.items():
        assert reason in said[line]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "prompts.jsonl", "The file is empty"),
        (b"  \n\n", "prompts.jsonl", "The file is empty"),
        (b'[{"prompt": "x"}]', "prompts.json", "one JSON array"),
        (b"PAR1....", "prompts.jsonl", "Parquet"),
        (b"PK\x03\x04...", "prompts.csv", "spreadsheet"),
        ("prompt\nx".encode("utf-16"), "prompts.csv", "UTF-16"),
        (b"a,b\n1,2\n", "prompts.csv", "names no prompt column"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_says_why(
    session: Session, import_file: ImportFile, content: bytes, name: str, said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        import_file(content, name)
    record = session.scalars(select(Import)).one()
    assert record.state is ImportState.FAILED
    assert said in record.message


def test_gzip_is_known_by_its_content(session: Session, import_file: ImportFile) -> None:
    assert counts(import_file(gzip.compress(b'"a"\n"b"\n'), "prompts.jsonl")) == (2, 2, 0, 0)
    assert counts(import_file(gzip.compress(b"prompt\nc\n"), "prompts.csv.gz")) == (1, 1, 0, 0)


def test_a_damaged_gzip_file_keeps_what_came_before(session: Session, import_file: ImportFile) -> None:
    random = [f'"prompt {number * 7919 % 10_007} {hash((number,)):x}"' for number in range(5_000)]
    packed = gzip.compress("\n".join(random).encode())
    with pytest.raises(Invalid, match="damaged or cut short"):
        import_file(packed[: len(packed) // 2])
    record = session.scalars(select(Import)).one()
    assert record.counts["added"] == len(stored(session)) > 500


def test_a_file_that_unpacks_to_too_much_is_stopped(session: Session, import_file: ImportFile) -> None:
    bomb = gzip.compress(b'"first"\n' + b" " * 50 * 2**20)
    with pytest.raises(Invalid, match="unpacks to more than 8 MB"):
        import_file(bomb, most_bytes=8 * 2**20)
    assert len(stored(session)) == 1, "what came before has been loaded"


class OnlyLines(io.BufferedReader):
    """A file that refuses to be read whole."""

    def read(self, size: int | None = -1) -> bytes:
        """Refuse what would not be bounded."""
        assert size is not None
        assert 0 <= size <= lines.LONGEST_LINE
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        """Refuse what would not be bounded."""
        assert size is not None
        assert 0 < size <= lines.LONGEST_LINE + 1
        return super().readline(size)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_reader_never_asks_for_more_than_a_line(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(pack(b'"a"\n' + b"x" * (3 * lines.LONGEST_LINE) + b'\n"b"'))
    with OnlyLines(io.FileIO(path)) as file:
        read = list(lines.numbered_lines(file))
    assert read == [(1, b'"a"\n'), (2, None), (3, b'"b"')]


def test_rejections_beyond_the_first_thousand_are_counted_only(import_file: ImportFile) -> None:
    record = import_file(b"{\n" * 2_500 + b'"good"\n')
    assert (counts(record), len(record.rejections)) == ((2_501, 1, 0, 2_500), 1_000)


def test_progress_is_told_batch_by_batch(import_file: ImportFile) -> None:
    told: list[tuple[int, int]] = []
    content = "\n".join(f'"prompt {number}"' for number in range(2_500)).encode()

    def note(progress: ImportProgress) -> None:
        told.append((progress.lines, progress.added))

    import_file(content, progress=note)
    assert told == [(1_000, 1_000), (2_000, 2_000), (2_500, 2_500), (2_500, 2_500)]


class Killed(BaseException):
    """Stands for kill -9 in the middle of an import."""


def test_an_import_that_was_killed_and_run_again_ends_with_the_right_counts(
    session: Session, session_factory: sessionmaker[Session], campaign: Campaign, clock: StoppedClock, tmp_path: Path
) -> None:
    path = tmp_path / "upload"
    written = [*(f'"prompt {number % 2_400}"' for number in range(2_500)), "{"]
    path.write_text("\n".join(written))
    record = begin_import(
        session, campaign=campaign, kind=ImportKind.PROMPTS, filename="prompts.jsonl", by_id=None, now=NOW
    )
    session.commit()
    import_id = record.id

    def kill(progress: ImportProgress) -> None:
        if progress.lines == 2_000:
            raise Killed

    with pytest.raises(Killed):
        load_prompts(session_factory, import_id=import_id, path=path, clock=clock, progress=kill)
    session.expire_all()
    assert (record.state, record.counts["added"]) == (ImportState.RUNNING, 2_000)
    for _ in range(2):
        load_prompts(session_factory, import_id=import_id, path=path, clock=clock)
    session.expire_all()
    assert (record.state, counts(record)) == (ImportState.DONE, (2_501, 2_400, 100, 1))
    assert session.scalars(select(func.count()).select_from(Prompt)).one() == 2_400
    assert session.scalars(select(AuditEntry.action)).all() == ["prompts.imported"], "finished once"


def test_new_prompts_of_an_open_campaign_have_its_queue_filled(
    session: Session, campaign: Campaign, import_file: ImportFile
) -> None:
    import_file(b'"a"\n')
    assert queued(session) == [("comparisons:fill_queue", {"campaign_id": campaign.id})]


def test_a_missing_file_or_campaign_is_said(
    session_factory: sessionmaker[Session], campaign: Campaign, clock: StoppedClock, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="There is no file"):
        import_prompts(session_factory, campaign_id=campaign.id, path=tmp_path / "no", by_id=None, clock=clock)
    (tmp_path / "yes").write_text('"a"')
    with pytest.raises(NotFound, match="no campaign with the number 987654"):
        import_prompts(session_factory, campaign_id=987_654, path=tmp_path / "yes", by_id=None, clock=clock)


@pytest.mark.slow
def test_fifty_thousand_lines_load_at_thousands_a_second(import_file: ImportFile) -> None:
    written = (json.dumps({"prompt": f"Explain topic {number}. " * 8, "tags": "a;b"}) for number in range(50_000))
    content = "\n".join(written).encode()
    started = time.process_time()
    assert counts(import_file(content)) == (50_000, 50_000, 0, 0)
    seconds = time.process_time() - started
    print(f"{50_000 / seconds:,.0f} lines a second of this process")
    assert seconds < 25, "of CPU time, however busy the machine is"


REAL_FILES = {
    "arena_hard_even.jsonl": (237, 237, 0, 0),
    "mt_bench.jsonl": (80, 80, 0, 0),
    "oasst_prompt_lottery.jsonl": (250, 250, 0, 0),
    "self_instruct_seed_tasks.jsonl": (175, 175, 0, 0),
    "vicuna_bench.jsonl": (80, 78, 2, 0),
}
"""Lines, added, duplicates, rejected; MT-Bench shares two prompts with Vicuna-Bench."""


@pytest.mark.real
def test_all_real_prompt_files_load(
    session: Session, session_factory: sessionmaker[Session], campaign: Campaign, clock: StoppedClock, real_data: Path
) -> None:
    for name, expected in REAL_FILES.items():
        path = real_data / "prompts" / name
        record = import_prompts(session_factory, campaign_id=campaign.id, path=path, by_id=None, clock=clock)
        assert counts(record) == expected
    prompts = stored(session)
    assert len(prompts) == 820
    assert max(len(prompt.messages[0]["content"]) for prompt in prompts) == 6_115
    held_out = sum(prompt.split is Split.EVAL for prompt in prompts)
    assert 0.15 < held_out / len(prompts) < 0.25
