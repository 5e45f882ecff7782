"""Campaigns of comparisons that were imported, made as a manager makes them: the form, the import, the opening."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.e2e.conftest import RunningPalate


def begin_campaign(page: Page, name: str) -> None:
    """The form of a new campaign that has no model, with its name filled in."""
    page.goto("/campaigns/new")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Model", exact=True).select_option(label="No model: comparisons are imported")


def opened_desk(page: Page, palate: RunningPalate, file: Path, lines: Iterable[dict[str, Any]]) -> str:
    """Create the campaign whose form is filled in, import these lines by way of `file`, and open it; the address of its
    desk."""
    file.write_text("\n".join(json.dumps(line) for line in lines))
    page.get_by_role("button", name="Create the campaign").click()
    page.wait_for_url(re.compile(r"/campaigns/\d+"))
    address = page.url.partition("?")[0]
    imported = palate.command("comparisons", "import", str(file), "--campaign", address.rpartition("/")[2])
    assert imported.returncode == 0, imported.stdout + imported.stderr
    page.reload()
    page.get_by_role("button", name="Open the campaign").click()
    # Whoever goes on before it is open may leave it closed.
    page.get_by_role("button", name="Pause").wait_for()
    return f"{address}/judge"
