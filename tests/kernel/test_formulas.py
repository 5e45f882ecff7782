"""LaTeX in a text comes out as MathML, where it is LaTeX and can be read."""

import re

import pytest

from app.formulas import LONGEST_FORMULA, VALUES, mathml
from app.markdown import MOST_FORMULA, render_markdown
from tests.kernel.test_markdown import live_tags


@pytest.mark.parametrize("typed", ["$x^2$", r"\(x^2\)", "$$x^2$$", r"\[x^2\]", "\\[\nx^2\n\\]", "$$\nx^2\n$$"])
def test_each_way_of_writing_a_formula_is_read(typed: str) -> None:
    html = render_markdown(f"So {typed} is it.")
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert ('display="block"' in html) == ("[" in typed or "$$" in typed)


@pytest.mark.parametrize("line", ["+ y", "- y", "= y", "# y", "> y", "1. y"])
def test_no_line_of_a_displayed_formula_begins_a_list_or_a_heading(line: str) -> None:
    tags = {tag for tag, _ in live_tags(render_markdown(f"\\[\nx\n{line}\n\\]"))}
    assert not tags & {"ul", "ol", "h1", "h2", "blockquote"}


@pytest.mark.parametrize(
    "prose",
    [
        "It costs $5 and $10.",
        "It costs $5 and 10$ too.",
        "От $5 и до 10$.",
        "US$5-US$6, CA$ 7",
        "$HOME/bin:$PATH and ${x}/${y}",
        "$20,000 and another 30$",
        "a $ b $ c",
    ],
)
def test_money_and_variables_stay_as_they_are(prose: str) -> None:
    assert render_markdown(prose) == f"<p>{prose}</p>\n"


def test_a_bracket_escaped_in_markdown_stays_a_bracket() -> None:
    assert render_markdown(r"see \[1\], \[2, 3\] and \[citation needed\]") == (
        "<p>see [1], [2, 3] and [citation needed]</p>\n"
    )


@pytest.mark.parametrize("typed", ["$n$th", "the answer $42$", r"triangle \(ABC\)", r"$5x$", r"$2 \text{ of them}$"])
def test_short_formulas_are_formulas(typed: str) -> None:
    assert "<math" in render_markdown(typed)


@pytest.mark.parametrize(
    "latex", [r"\nosuchcommand{x}", r"\frac{a}", "a & b", "{x", r"\left( x", "x" * (LONGEST_FORMULA + 1), r"\begin{z}x"]
)
@pytest.mark.parametrize(("opening", "closing"), [("$", "$"), ("$$", "$$"), (r"\(", r"\)"), (r"\[", r"\]")])
def test_what_cannot_be_read_stays_as_it_was_typed(latex: str, opening: str, closing: str) -> None:
    typed = f"{opening}{latex}{closing}"
    assert render_markdown(typed) == f"<p>{typed.replace('&', '&amp;')}</p>\n"


def test_code_holds_no_formulas() -> None:
    html = render_markdown("`$x$`\n\n```\n$$\nx\n+ y\n$$\n```\n\n    $z$")
    assert "<math" not in html
    assert "$$\nx\n+ y\n$$" in html


def test_a_text_full_of_formulas_is_shown_without_any() -> None:
    assert "<math" not in render_markdown("$x$ " * MOST_FORMULA)


def test_a_formula_cannot_name_an_address_a_style_or_a_size() -> None:
    hostile = r"$\href{javascript:1}{x} \style{position:fixed}{x} \hspace{99999em} \color{red}{x} \text{<img src=x>}$"
    for tag, attributes in live_tags(render_markdown(hostile)):
        assert tag in {"p", "span"} or tag in "math mrow mi mtext mspace mstyle"
        assert set(attributes) <= {"class", *VALUES.get(tag, {})}


def test_limits_stand_below_and_accents_close() -> None:
    made = mathml(r"\lim_{x \to 0} \hat{y}", is_block=True) or ""
    assert re.search(r"<munder><mo>lim</mo>", made)
    assert 'accent="true"' in made


@pytest.mark.parametrize("environment", ["aligned", "align*", "cases", "dcases", "pmatrix", "gathered", "array}{cc"])
def test_what_models_write_most_is_known(environment: str) -> None:
    name = environment.partition("}")[0]
    assert "<mtable" in (mathml(rf"\begin{{{environment}}} a & b \\ c & d \end{{{name}}}", is_block=True) or "")
