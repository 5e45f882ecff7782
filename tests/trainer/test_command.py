"""`python -m trainer` as a person or the worker types it."""

from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.run import ExitCode


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "nowhere")]) == ExitCode.USAGE
    assert "There is no run folder" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"]])
def test_a_mistyped_command_says_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == ExitCode.USAGE
    assert "usage: python -m trainer" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "word"), [("serve", "--allowed-root"), ("starter", "measure")])
def test_other_commands_read_their_own_arguments(command: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert word in capsys.readouterr().out


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
    text = " ".join(capsys.readouterr().out.split())
    for word in ("run", "merge", "serve", "starter", "another trainer holds the run"):
        assert word in text
