// Charts drawn from the tables that stand behind them, in place of the pictures that the server sends. They are drawn
// anew when their table, the window or the colour scheme changes.
(() => {
  const HEIGHT = 220;
  const charts = new Map(); // figure -> uPlot

  const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power)); // steps apart
  const DASHES = [[], [7, 4], [2, 4], [10, 3, 2, 3], [14, 5], [4, 2]]; // as in training.css

  const numbers = (figure) => {
    const rows = [...figure.querySelectorAll("details tbody tr")].map((row) => [...row.cells].map(
      (cell) => (cell.dataset.x ?? cell.dataset.y) === undefined ? null : Number(cell.dataset.x ?? cell.dataset.y)));
    return (rows[0] ?? []).map((_, column) => rows.map((row) => row[column]));
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = (value) => { // as app/training/chart.py writes numbers
    const size = Math.abs(value);
    if (size > 0 && size < 1e-4) return value.toPrecision(3);
    return value.toLocaleString("en-US", size < 1000 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 });
  };
  const percent = (value) => `${+(100 * value).toFixed(1)} %`;

  const labels = (figure) => [...figure.querySelectorAll("details thead th.number")];

  const around = (_, low, high) =>
    low === high ? [low - .05, high + .05] : uPlot.rangeNum(low, high, .1, true); // one value alone has no range

  function shown(figure) {
    return figure.dataset.percent === undefined ? plain : percent;
  }

  function options(figure, width) {
    const say = shown(figure);
    const axis = {
      stroke: () => colour("--muted"), font: "12px system-ui, sans-serif",
      grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false },
    };
    const across = {
      ...axis, size: 26, grid: { show: false }, incrs: WHOLE,
      label: figure.dataset.across, labelSize: 18, labelGap: 0, labelFont: axis.font,
    };
    const last = () => Number(figure.dataset.last); // known only once training begins
    return {
      width, height: HEIGHT,
      scales: {
        x: { time: false, range: (_, low, high) => [Math.min(0, low), Math.max(last(), high, 1)] },
        y: { range: figure.dataset.percent === undefined ? around : [0, 1] },
      },
      axes: [across, { ...axis, size: 56, space: 28, values: (_, values) => values.map(say) }],
      series: [
        { label: figure.dataset.across },
        ...labels(figure).map((head, place) => ({
          label: head.textContent, stroke: () => colour(`--line-${place + 1}`), dash: DASHES[place], width: 2,
          spanGaps: true, // a line that is known at evaluations alone
          points: { show: head.dataset.dotted !== undefined, fill: () => colour("--surface"), size: 7 },
          value: (_, value) => (value == null ? "–" : say(value)),
        })),
      ],
      cursor: { drag: { x: false, y: false } },
    };
  }

  function draw(figure) {
    const place = figure.querySelector(".plot");
    const data = numbers(figure);
    const drawn = charts.get(figure);
    if (drawn?.series.length === data.length) {
      drawn.setData(data);
      return;
    }
    drawn?.destroy(); // there is a line more now
    place.replaceChildren();
    place.setAttribute("hx-morph-skip", ""); // what is drawn here is ours
    place.setAttribute("aria-hidden", "true"); // the table says it
    charts.set(figure, new uPlot(options(figure, place.clientWidth), data, place));
    if (!drawn) new ResizeObserver(() => charts.get(figure)?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
  }

  function drawAll() {
    for (const figure of charts.keys()) if (!figure.isConnected) charts.delete(figure);
    document.querySelectorAll("figure.chart").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("htmx:after:swap", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const chart of charts.values()) chart.redraw();
  });
})();
