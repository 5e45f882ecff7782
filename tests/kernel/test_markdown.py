"""Text from people and models is rendered, and cannot do anything."""

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest

from app.markdown import LONGEST_BLOCK, render_markdown


class Tags(HTMLParser):
    """Collects what a browser would take for tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


def live_tags(html: str) -> list[tuple[str, dict[str, str]]]:
    tags = Tags()
    tags.feed(html)
    return tags.found


def test_markdown_is_rendered() -> None:
    html = render_markdown("**bold** and `code`\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for part in ("<strong>bold</strong>", "<code>code</code>", "<li>one</li>", "<td>1</td>"):
        assert part in html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<style>body{display:none}</style>",
        "[click](javascript:alert(1))",
        "[click](data:text/html;base64,PHNjcmlwdD4=)",
        "![pixel](https://tracker.example/p.png)",
        "<iframe src=https://example.org></iframe>",
        '<a href="x" style="position:fixed;inset:0">x</a>',
        "[a](https://example.org 'x\" onmouseover=\"alert(1)')",
    ],
)
def test_hostile_markdown_comes_out_inert(hostile: str) -> None:
    for tag, attributes in live_tags(render_markdown(hostile)):
        assert tag in {"p", "a", "img"}
        assert set(attributes) <= {"href", "title", "rel", "alt"}
        assert urlsplit(attributes.get("href", "")).scheme in {"", "https"}


def test_a_link_opens_without_telling_where_from() -> None:
    assert 'rel="noopener noreferrer nofollow"' in render_markdown("[site](https://example.org)")


@pytest.mark.parametrize("reversing", ["\u202e", "&#x202e;", "&#8238;"])
def test_characters_that_reverse_the_reading_order_are_written_out(reversing: str) -> None:
    assert render_markdown(f"safe{reversing}txt.exe") == "<p>safe[U+202E]txt.exe</p>\n"


def test_a_text_in_arabic_keeps_its_marks() -> None:
    assert render_markdown("مرحبا\u200f!") == '<p dir="auto">مرحبا\u200f!</p>\n'


def test_an_image_leaves_its_description() -> None:
    assert render_markdown("![a cat](https://tracker.example/p.png)") == '<p><img alt="a cat"></p>\n'


def test_nothing_that_was_written_vanishes() -> None:
    assert render_markdown("[hidden]: https://example.org") == '<p class="verbatim">[hidden]: https://example.org</p>\n'
    assert render_markdown(" \n").strip() == ""


def test_a_text_shown_as_it_was_written_is_cut_into_blocks_that_a_browser_lays_out_fast() -> None:
    text = "word " * 20_000 + "\n" + "line\n" * 4_000 + "x" * 20_000
    blocks = re.findall(r'<p class="verbatim">(.*?)</p>', render_markdown(text), re.DOTALL)
    assert max(map(len, blocks)) <= LONGEST_BLOCK
    assert {block[-1] for block in blocks} == {" ", "e", "x"}, "cut after words, and after lines"
    assert "".join(blocks).replace("\n", "") == text.replace("\n", ""), "nothing is lost"


def test_each_outermost_block_of_a_text_that_runs_left_takes_its_own_side() -> None:
    shown = render_markdown("שלום\n\n- אחד\n  - שתיים\n\n> ציטוט\n\nEnglish.")
    assert re.findall(r"<(\w+) dir=\"auto\"", shown) == ["p", "ul", "blockquote", "p"]
    assert shown.count("<ul>") == 1, "a list within a list takes its side"


def test_other_texts_say_nothing_of_direction() -> None:
    assert "dir=" not in render_markdown("Ünïcode, 日本語。\n\n- one")


def test_headings_stand_below_those_of_the_page() -> None:
    assert render_markdown("# One\n\n## Two\n\n##### Five") == "<h3>One</h3>\n<h4>Two</h4>\n<h6>Five</h6>\n"
    assert render_markdown("`<h1>` and <h2>") == "<p><code>&lt;h1&gt;</code> and &lt;h2&gt;</p>\n"


def test_what_may_scroll_sideways_is_reached_by_keyboard() -> None:
    assert '<pre tabindex="0"><code>wide' in render_markdown("```\nwide\n```")
    assert '<table tabindex="0">' in render_markdown("|a|b|\n|-|-|\n|1|2|")
    assert "<pre" not in render_markdown('<pre tabindex="5">x')
    assert 'title="&lt;pre&gt;"' in render_markdown("[x](https://example.org '<pre>')")
