"""The first load of the judging page in a real browser: bytes, requests, and when a judgment is possible.

    python -m benchmarks.first_page

Each round is a fresh browser context, so that nothing is cached. Compressed bytes are those that came over the wire.
A judgment is possible once the page is read and its scripts have run, which the browser itself times from the start of
the navigation (`domContentLoadedEventEnd`). The other time is what the script that drives the browser waits, from its
order to the answer of two questions: it has the start of a renderer and the driver's own round trips in it.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import typer
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.installation import Database, filled_database, postgres, web
from benchmarks.processor import yardstick_ms

ROUNDS = 9


def main() -> None:
    """Measure and print one table."""
    with tempfile.TemporaryDirectory(prefix="palate-page-") as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with postgres(folder) as (server, _):
            database = filled_database(server, name="page", comparisons=1000, annotators=1)
            with web(database, folder=folder) as (host, port, _pid):
                rounds = [load(browser, database, f"http://{host}:{port}") for _ in range(ROUNDS)]
        browser.close()
    table = Table(
        title=f"First load of the judging page, {ROUNDS} fresh browsers, medians; yardstick {yardstick_ms():.0f} ms"
    )
    for column in ("compressed KB", "requests", "ms until a judgment is possible", "ms that the driver waits"):
        table.add_column(column, justify="right")
    size, requests, ready, waited = (statistics.median(each) for each in zip(*rounds, strict=True))
    table.add_row(f"{size / 1000:.1f}", f"{requests:.0f}", f"{ready:.0f}", f"{waited:.0f}")
    Console().print(table)


def load(browser: Browser, database: Database, address: str) -> tuple[int, int, float, float]:
    """Bytes, requests, and the two times in milliseconds, of one visit by a browser that has never been there."""
    context = browser.new_context()
    context.add_cookies([{"name": "palate_session", "value": database.tokens[0], "url": address}])
    page = context.new_page()
    sizes: list[int] = []
    page.on("requestfinished", lambda request: sizes.append(sum(request.sizes()[part] for part in _OVER_THE_WIRE)))
    begun = time.perf_counter()
    page.goto(f"{address}/campaigns/{database.campaign_id}/judge")
    page.locator("#judging-panel .dock button:visible").first.wait_for()
    page.wait_for_function("() => window.htmx !== undefined")
    waited = 1000 * (time.perf_counter() - begun)
    page.wait_for_load_state("networkidle")
    ready = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    context.close()
    return sum(sizes), len(sizes), ready, waited


_OVER_THE_WIRE = ("responseBodySize", "responseHeadersSize")


if __name__ == "__main__":
    typer.run(main)
