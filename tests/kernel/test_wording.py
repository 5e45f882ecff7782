"""Texts for people go through gettext: what Python raises, what templates show, and what `pybabel` collects."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from app.errors import DomainError
from app.settings import ROOT
from app.wording import gettext, ngettext, translations

TERMINAL = ("stack", "commands", "cli.py", "settings.py", "worker.py", "starter.py", "operation/backup.py")
"""What only a terminal shows stays in English."""


def unwrapped(source: str) -> list[int]:
    """Lines on which a domain error is made of a text that no translation reaches."""
    kinds = {kind.__name__ for kind in _kinds(DomainError)}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in kinds
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
    ]


def _kinds(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def test_an_unwrapped_message_is_found() -> None:
    assert unwrapped('raise NotFound("Nothing here.")\nraise Conflict(f"{n} there.")\nraise Invalid(_("No."))') == [
        1,
        2,
    ]


def test_every_domain_error_speaks_through_gettext() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "app").rglob("*.py"))
        if not str(path.relative_to(ROOT / "app")).startswith(TERMINAL)
        for line in unwrapped(path.read_text())
    ]
    assert found == []


def test_messages_of_python_and_of_templates_are_collected(tmp_path: Path) -> None:
    catalogue = tmp_path / "palate.pot"
    command = [sys.executable, "-m", "babel.messages.frontend", "extract", "-k", "N_", "-F", "babel.cfg"]
    subprocess.run([*command, "-o", str(catalogue), "app", "templates"], cwd=ROOT, check=True)
    with catalogue.open("rb") as file:
        messages = {message.id: message for message in read_po(file)}
    assert "Choose the better one, or skip." in messages
    assert "Guidelines" in messages
    assert "There is an account with this email already. Sign in with it instead." in messages
    assert ("%(num)s minute", "%(num)s minutes") in messages
    assert len(messages) > 500


@pytest.fixture
def bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language in which every message stands in brackets, spoken by every request."""
    spoken = translations.get()
    monkeypatch.setattr(spoken, "gettext", lambda message: f"⟦{message}⟧")
    monkeypatch.setattr(spoken, "ngettext", lambda one, many, number: f"⟦{one if number == 1 else many}⟧")


@pytest.mark.usefixtures("bracketed")
def test_values_and_percent_signs_survive_translation() -> None:
    assert gettext("%(share)s %% of %(name)s", share=40, name="all") == "⟦40 % of all⟧"
    assert ngettext("%(num)s row", "%(num)s rows", 2) == "⟦2 rows⟧"
