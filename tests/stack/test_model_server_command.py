"""`palate model-server`: what the model server is started with."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from trainer.serving.settings import parse_settings


def test_the_memory_of_the_model_server_is_a_setting_of_palate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, arguments: started.append(arguments))
    monkeypatch.setenv("PALATE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PALATE_MODEL_MEMORY_MEGABYTES", "750")
    result = CliRunner().invoke(cli, ["model-server", "--max-choices", "16"])
    assert result.exit_code == 0, result.output
    settings = parse_settings(started[0][4:], {})
    assert (settings.max_model_bytes, settings.max_choices) == (750_000_000, 16)
