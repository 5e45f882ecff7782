"""What an admin may register, and what they are told where it cannot be."""

from pathlib import Path

import pytest

from app.deployments.model_folders import checked_folder
from app.errors import Invalid
from trainer.contract.files import weights_sha256


def model_folder(path: Path, *, without: str = "", **more: str) -> Path:
    """A folder that looks like a model."""
    path.mkdir(parents=True)
    files = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights", **more}
    for name, content in files.items():
        if name != without:
            (path / name).write_text(content)
    return path


def test_a_whole_folder_inside_the_allowed_ones_is_taken_with_its_hash(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "models" / "mine")
    found = checked_folder(f"  {folder} ", roots=[tmp_path / "models"])
    assert (found.path, found.sha256) == (folder, weights_sha256(folder))


def test_a_folder_outside_the_allowed_ones_is_refused_whether_or_not_it_is_there(tmp_path: Path) -> None:
    model_folder(tmp_path / "secret")
    roots = [tmp_path / "models"]
    messages = set()
    for path in (tmp_path / "secret", tmp_path / "absent", tmp_path / "models" / ".." / "secret"):
        with pytest.raises(Invalid, match="may only be loaded from these folders") as refusal:
            checked_folder(str(path), roots=roots)
        messages.add(refusal.value.message)
    assert len(messages) == 1


def test_a_link_out_of_the_allowed_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(model_folder(tmp_path / "secret"))
    with pytest.raises(Invalid, match="may only be loaded"):
        checked_folder(str(tmp_path / "models" / "link"), roots=[tmp_path / "models"])


@pytest.mark.parametrize(
    ("without", "more", "said"),
    [
        ("model.safetensors", {}, "holds no .safetensors file"),
        ("model.safetensors", {"pytorch_model.bin": "x"}, "pytorch_model.bin: convert it to safetensors"),
        ("config.json", {}, "holds no config.json"),
        ("tokenizer.json", {}, "holds no tokenizer"),
        ("", {"config.json": "not json"}, "cannot be read"),
        ("", {"adapter_config.json": "{}"}, "Merge it into its base model"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path: Path, without: str, more: dict[str, str], said: str) -> None:
    folder = model_folder(tmp_path / "models" / "mine", without=without, **more)
    with pytest.raises(Invalid, match=said):
        checked_folder(str(folder), roots=[tmp_path])


def test_a_relative_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="full path"):
        checked_folder("models/mine", roots=[tmp_path])
