"""docs/security.md names, for each promise, tests that exist."""

import ast
import re

from app.settings import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def test_every_test_that_the_page_names_exists() -> None:
    named = 0
    for row in (line for line in PAGE.splitlines() if line.startswith("|")):
        path = None
        for file, test in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", row):
            path = file or path
            assert path is not None, row
            assert test in functions(path), f"{path}::{test}"
            named += 1
    assert named > 50


def test_every_file_of_attacks_is_on_the_page() -> None:
    for path in sorted((ROOT / "tests" / "security").glob("test_*.py")):
        assert f"tests/security/{path.name}" in PAGE, path.name


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
