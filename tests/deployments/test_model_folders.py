"""What an admin may register, and what they are told where it cannot be."""

from pathlib import Path

import pytest

from app.deployments.model_folders import checked_folder, found_folders
from app.errors import Invalid
from trainer.contract.files import weights_sha256

EMPTY_WEIGHTS = "\x02" + 7 * "\0" + "{}"
"""A whole safetensors file of no weights."""


def model_folder(path: Path, *, without: str = "", **more: str) -> Path:
    """A folder that looks like a model."""
    path.mkdir(parents=True)
    files = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": EMPTY_WEIGHTS, **more}
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
        ("", {"config.json": '{"architectures": ["LlamaForSequenceClassification"]}'}, "rates or sorts texts"),
    ],
)
def test_what_a_folder_lacks_is_said(tmp_path: Path, without: str, more: dict[str, str], said: str) -> None:
    folder = model_folder(tmp_path / "models" / "mine", without=without, **more)
    with pytest.raises(Invalid, match=said):
        checked_folder(str(folder), roots=[tmp_path])


def test_a_relative_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="full path"):
        checked_folder("models/mine", roots=[tmp_path])


@pytest.mark.parametrize(
    "content",
    ["", "short", EMPTY_WEIGHTS + "more",
     "\x05" + 7 * "\0" + "{}",
     '\x1f' + 7 * "\0" + '{"a": {"data_offsets": [0, 4]}} ',
     "\x02" + 7 * "\0" + "[]", "\x02" + 7 * "\0" + "{}{"],
)  # fmt: skip
def test_weights_that_are_cut_short_are_found_without_reading_them(tmp_path: Path, content: str) -> None:
    folder = model_folder(tmp_path / "mine", **{"model.safetensors": content})
    with pytest.raises(Invalid, match="cut short or no safetensors file"):
        checked_folder(str(folder), roots=[tmp_path])


def test_folders_to_choose_from_are_those_not_in_use_with_what_is_wrong_with_them(tmp_path: Path) -> None:
    good = model_folder(tmp_path / "deep" / "er" / "good")
    used = model_folder(tmp_path / "used")
    bare = model_folder(tmp_path / "bare", without="tokenizer.json")
    model_folder(tmp_path / "postgres" / "no-model")
    model_folder(tmp_path / ".cache" / "hidden")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = found_folders([tmp_path, tmp_path / "absent"], taken={str(used)})
    assert [(folder.path, folder.bytes) for folder in found] == [(good, 10), (bare, 10)]
    assert found[0].fault == ""
    assert "holds no tokenizer" in found[1].fault
