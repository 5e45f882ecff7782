"""The geometry of charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, line_chart, round_range, written


def test_nothing_is_drawn_without_a_point() -> None:
    assert line_chart([], name="loss", title="Loss", last_x=10) is None
    assert line_chart([Curve("Loss", [])], name="loss", title="Loss", last_x=10) is None


def test_shares_are_drawn_between_nothing_and_all() -> None:
    curve = Curve("Held-out accuracy", [(0, 0.5), (50, 1.0)], dotted=True)
    chart = line_chart([curve], name="accuracy", title="Held-out accuracy", last_x=100, as_percent=True)
    assert chart is not None
    middle = (TOP + HEIGHT - BOTTOM) / 2
    (line,) = chart.lines
    assert line.points == f"{LEFT:.1f},{middle:.1f} {(LEFT + WIDTH - RIGHT) / 2:.1f},{TOP:.1f}"
    assert [tick.label for tick in chart.y_ticks] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    assert chart.summary == "Held-out accuracy: 50 % at first, 100 % at step 50."
    assert [dot.label for dot in line.dots] == ["Step 0: 50 %", "Step 50: 100 %"]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.integers(1, 1000),
)
def test_every_point_lies_inside_the_plot(values: list[float], last: int) -> None:
    points = [(float(step), value) for step, value in enumerate(values)]
    chart = line_chart([Curve("One", points), Curve("Other", points[:1])], name="loss", title="Loss", last_x=last)
    assert chart is not None
    for point in " ".join(line.points for line in chart.lines).split():
        x, y = map(float, point.split(","))
        assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1
    assert 2 <= len(chart.y_ticks) <= 8


def test_several_lines_share_axes_and_a_table_in_which_what_is_missing_is_a_gap() -> None:
    curves = [
        Curve("Every step", [(1, 0.0), (2, 1.0), (3, 2.0)]),
        Curve("Seldom", [(0, -1.0), (2, 3.0)], dotted=True),
        Curve("Never", []),
    ]
    chart = line_chart(curves, name="margin", title="Margin", last_x=4)
    assert chart is not None
    assert [line.label for line in chart.lines] == ["Every step", "Seldom"]
    assert [(row.x, [value and value.y for value in row.values]) for row in chart.rows] == [
        (0, [None, -1.0]),
        (1, [0.0, None]),
        (2, [1.0, 3.0]),
        (3, [2.0, None]),
    ]
    assert [len(line.dots) for line in chart.lines] == [1, 2]
    assert (chart.y_ticks[0].label, chart.y_ticks[-1].label) == ("-1", "3")
    assert chart.summary == "Every step: 0 at first, 2 at step 3. Seldom: -1 at first, 3 at step 2."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1250.4, "-1,250"),
        (1234567.0, "1,234,567"),
        (999.6, "1,000"),
        (12.34, "12.3"),
        (10.0, "10"),
        (0.000123, "0.000123"),
        (0.0000123, "1.23e-05"),
        (-0.5, "-0.5"),
        (0.0, "0"),
    ],
)
def test_numbers_are_written_out_down_to_a_ten_thousandth(value: float, text: str) -> None:
    assert written(value, digits=3) == text


def test_a_chart_of_large_values_has_no_exponents_anywhere() -> None:
    curve = Curve("Chosen", [(0, -12500.0), (1000, -11000.0)], dotted=True)
    chart = line_chart([curve], name="logps", title="Log-probability", last_x=2000)
    assert chart is not None
    assert [tick.label for tick in chart.y_ticks] == ["-12,500", "-12,000", "-11,500", "-11,000"]
    assert [dot.label for dot in chart.lines[0].dots] == ["Step 0: -12,500", "Step 1,000: -11,000"]
    assert chart.summary == "Log-probability: -12,500 at first, -11,000 at step 1,000."
    assert [value and value.label for row in chart.rows for value in row.values] == ["-12,500", "-11,000"]


@pytest.mark.parametrize(
    ("last", "labels"),
    [
        (1, ["0", "1"]),
        (2, ["0", "1", "2"]),
        (5, ["0", "1", "2", "4", "5"]),
        (40, ["0", "10", "20", "30", "40"]),
        (4000, ["0", "1,000", "2,000", "3,000", "4,000"]),
    ],
)
def test_the_axis_of_steps_has_whole_ones_each_once_where_they_are(last: int, labels: list[str]) -> None:
    chart = line_chart([Curve("Loss", [(1, 0.5)])], name="loss", title="Loss", last_x=last)
    assert chart is not None
    assert [tick.label for tick in chart.x_ticks] == labels
    for tick in chart.x_ticks:
        place = int(tick.label.replace(",", "")) / last
        assert tick.at == pytest.approx(LEFT + place * (WIDTH - LEFT - RIGHT), abs=0.1)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.31, 0.74, (0.2, 0.8, 0.2)), (0.5, 0.5, (0.0, 1.0, 0.25)), (3, 97, (0, 100, 25))]
)
def test_axes_end_at_round_numbers(low: float, high: float, expected: tuple[float, float, float]) -> None:
    assert round_range(low, high) == pytest.approx(expected)
