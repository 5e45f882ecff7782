"""Comparisons as a table: the header, what each row becomes, and files that will not do."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.datasets.house import parse_line
from app.datasets.tabular import Misread, house_lines
from app.errors import Invalid


def lines(content: bytes, filename: str = "mine.csv") -> list[tuple[int, Any]]:
    """What a file becomes: numbers with JSON values, or what was misread."""

    def numbered() -> Iterator[tuple[int, bytes | None]]:
        yield from enumerate(content.splitlines(keepends=True), start=1)

    return [
        (number, json.loads(line) if isinstance(line, bytes) else line)
        for number, line in house_lines(numbered(), filename=filename)
    ]


def test_a_row_becomes_a_line_of_the_house_format() -> None:
    content = (
        b"id;prompt;system;completion_2;completion_1;model_1;ranking;annotator;tags\n\n"
        b'7;"Why?\nReally?";Be brief.;two;one;mine;2>1;ann;a; b\n'.replace(b"a; b", b'"a; b"')
    )
    ((number, row),) = lines(content)
    assert number == 3
    assert row == {
        "id": "7", "tags": ["a", "b"],
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?\nReally?"}],
        "completions": [{"text": "one", "model": "mine"}, {"text": "two"}],
        "judgments": [{"annotator": "ann", "ranking": "2>1"}],
    }  # fmt: skip


def test_chosen_and_rejected_are_a_judgment_and_a_row_without_a_verdict_is_none() -> None:
    content = b"prompt\tchosen\trejected\nWhy?\tGood.\tBad.\nHow?\tonly\t\n"
    (_, judged), (_, bare) = lines(content, "mine.tsv.gz")
    assert judged["judgments"] == [{"ranking": "1>2"}]
    parse_line(json.dumps(judged).encode())
    with pytest.raises(ValueError, match="completions"):
        parse_line(json.dumps(bare).encode())


def test_the_first_line_says_what_a_file_is_whose_name_does_not() -> None:
    assert lines(b'{"prompt": "x"}\n', "mine")[0] == (1, {"prompt": "x"})
    assert lines(b"prompt,completion_1,completion_2\nq,a,b\n", "mine")[0][1]["completions"][1] == {"text": "b"}
    assert lines(b"\n\n", "mine.csv") == []


def test_rows_that_cannot_be_taken_apart_are_told_and_the_others_come() -> None:
    content = b"prompt,completion_1,completion_2\nq,a\nq,\xff,b\nq,a,b\n"
    (_, short), (_, broken), (number, good) = lines(content)
    assert isinstance(short, Misread)
    assert "2 cells, the header 3" in short.reason
    assert isinstance(broken, Misread)
    assert "UTF-8" in broken.reason
    assert (number, good["completions"]) == (4, [{"text": "a"}, {"text": "b"}])


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("question,completion_1,completion_2", "must name the columns"),
        ("prompt,completion_1,completion_2,raiting", "no column “raiting”"),
        ("prompt,completion_1", "Name the completions"),
        ("prompt,chosen,rejected,chosen", "the same name"),
    ],
)
def test_a_header_that_will_not_do_is_refused_with_what_to_do(header: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        lines(f"{header}\nq,a,b\n".encode())
