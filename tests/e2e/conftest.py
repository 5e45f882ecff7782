"""A whole Palate, started as its users start it, and a real browser to drive it with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, StorageState, sync_playwright

from app.stack.ports import free_port

READY_SECONDS = 90
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class RunningPalate:
    """A stack under test: its address, its first admin's link, and everything it printed."""

    process: subprocess.Popen[str]
    address: str
    first_admin_link: str
    data_dir: Path
    environment: dict[str, str]
    first_admin: StorageState | None = None
    """Cookies of whoever opened the link."""

    @property
    def model_server(self) -> str:
        """Where the model server answers."""
        return self.environment["PALATE_MODEL_SERVER_URL"]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another `palate` command against the same data."""
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


def start_palate(data_dir: Path, *, port: int | None = None, **more: str) -> RunningPalate:
    """`palate up` on a data folder, `more` in its environment; waits until it prints the address."""
    port = port or free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PALATE_")},
        "PALATE_DATA_DIR": str(data_dir), "PALATE_PORT": str(port), "COLUMNS": "200", "PYTHONUNBUFFERED": "1",
        "PALATE_MODEL_SERVER_URL": f"http://127.0.0.1:{free_port()}", **more,
    }  # fmt: skip
    environment.pop("DATABASE_URL", None)
    output = data_dir.parent / f"{data_dir.name}-up.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up"], env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )
    deadline = time.monotonic() + READY_SECONDS
    while "Logs:" not in (said := output.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            logs = "\n".join(path.read_text()[-3000:] for path in (data_dir / "logs").glob("*.log"))
            pytest.fail(f"palate up did not become ready:\n{said}\n{logs}")
        time.sleep(0.05)
    link = re.search(r"http://\S+/links/\S+", said)
    address = f"http://127.0.0.1:{port}"
    return RunningPalate(process, address, link.group() if link else "", data_dir, environment)


def stop_palate(palate: RunningPalate) -> None:
    """Ctrl-C, and wait for the orderly stop."""
    if palate.process.poll() is None:
        palate.process.send_signal(signal.SIGINT)
        palate.process.wait(60)


def armed(data_dir: Path) -> Path:
    """The folder in which a step's name pulls a plug (`trainer.contract.steps`), beside the data."""
    folder = data_dir.parent / "armed"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def palate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPalate]:
    """One stack for all journeys of this test process; what is shown first is the same at every run."""
    folder = tmp_path_factory.mktemp("palate")
    running = start_palate(folder / "data", PULL_PLUGS_IN=str(armed(folder / "data")), PALATE_GENERATION_SEED="7")
    yield running
    stop_palate(running)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """The driver; it holds an event loop, which must not be there when tests of other modules start one."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """The system's Chromium; a missing one is a failure, never a skip."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("No Chromium found. `make chromium` installs it.")
    browser = playwright.chromium.launch(
        executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    )
    yield browser
    browser.close()


def join(page: Page, link: str, *, name: str) -> None:
    """Open a link that lets somebody in, fill its form in, and be signed in."""
    page.goto(link)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Email").fill(f"{name.lower()}@example.org")
    page.get_by_label("Password", exact=True).fill("a long enough password")
    page.locator("main form button").last.click()
    page.wait_for_url(lambda url: "/links/" not in url)


@pytest.fixture(scope="module")
def ada(browser: Browser, palate: RunningPalate) -> StorageState:
    """The first admin's cookies, after she opened her link, which she can do but once."""
    if palate.first_admin is None:
        context = browser.new_context(base_url=palate.address)
        join(context.new_page(), palate.first_admin_link, name="Ada")
        palate.first_admin = context.storage_state()
        context.close()
    return palate.first_admin


@pytest.fixture
def context(browser: Browser, palate: RunningPalate, ada: StorageState) -> Iterator[BrowserContext]:
    """The first admin's browser; a page error fails the test."""
    context = browser.new_context(base_url=palate.address, viewport={"width": 1440, "height": 900}, storage_state=ada)
    context.set_default_timeout(20_000)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(str(error.error)))
    yield context
    context.close()
    assert not problems, f"script errors in the page: {problems}"


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab."""
    return context.new_page()
