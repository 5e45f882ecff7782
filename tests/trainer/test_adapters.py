"""LoRA: an adapter by itself, in its folder, merged, and as what a run trains."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.factories.adapters import moved, write_moved
from tests.factories.serving import random_model, save
from tests.factories.snapshots import model_ref, write_run
from tests.trainer.conftest import QUICK, MakeRun, interrupt_at
from tests.trainer.test_run import failed, numbers_of, report_of
from trainer import memory
from trainer.__main__ import main
from trainer.adapters import (
    adapter_parameters,
    load_adapter,
    merge_adapter,
    new_adapter,
    shared_copy,
    train_adapter_alone,
    write_adapter_files,
)
from trainer.contract.files import weights_sha256
from trainer.contract.run import MODEL_FOLDER, Hyperparameters, Method, ModelRef, RunRequest, SnapshotRef, Tuning
from trainer.errors import ModelError
from trainer.evaluate import held_out_preferences
from trainer.groups import preference_groups, preference_pairs
from trainer.logps import fitting_scorer
from trainer.models import load_model, stored_parameters, verify_model
from trainer.packing import Tokens, trees_of
from trainer.rankings import ranked_texts
from trainer.rates import usual_rate
from trainer.request import read_request
from trainer.run import ExitCode, run
from trainer.snapshot import read_snapshot
from trainer.tuning import LORA_ABOVE_PARAMETERS, needed_disk_bytes, planned, prepare

ARCHITECTURES = ["llama", "gpt2", "qwen3", "mistral", "gemma2", "llama4"]
"""Read in trees, all but the last three; GPT-2's linear layers are transposed."""
SEQUENCES = [Tokens(tuple(range(5, 30)), tuple(range(40, 40 + count))) for count in (10, 15)]
LORA = Hyperparameters(epochs=4, learning_rate=1e-2, drift_weight=0.1, tuning=Tuning.LORA, lora_rank=4, lora_alpha=8)


def logps(model: Any) -> list[float]:
    """What a model says of SEQUENCES."""
    return fitting_scorer(model).sequence_logps(SEQUENCES)


# --- By itself


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_adapter_changes_nothing_and_a_moved_one_nothing_of_those_who_share_the_weights(
    architecture: str,
) -> None:
    model, _ = random_model(architecture=architecture)
    other = shared_copy(model)
    before = logps(model)
    new_adapter(model, rank=4, alpha=8, seed=1)
    assert logps(model) == before
    moved(model)
    changed = logps(model)
    assert abs(changed[0] - before[0]) > 0.01
    merge_adapter(model)
    assert logps(model) == pytest.approx(changed, rel=1e-6)
    assert logps(other) == before
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert own & {parameter.data_ptr() for parameter in other.parameters()}


def test_the_first_matrices_follow_from_the_seed_and_leave_random_numbers_alone() -> None:
    weights = []
    for seed in (1, 1, 2):
        model, _ = random_model()
        state = torch.get_rng_state()
        new_adapter(model, rank=4, alpha=8, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in adapter_parameters(model)]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("architecture", "linear"), [("llama", 7), ("gpt2", 4)])
def test_every_linear_layer_of_the_transformer_is_adapted_and_the_head_is_not(architecture: str, linear: int) -> None:
    model, _ = random_model(architecture=architecture)
    new_adapter(model, rank=4, alpha=8, seed=1)
    assert len(adapter_parameters(model)) == 2 * 2 * linear
    assert not [name for name, _ in model.named_parameters() if "lora_" in name and "head" in name]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradients_of_an_adapter_are_the_same_in_trees_and_row_by_row(architecture: str) -> None:
    gradients = []
    for in_trees in (True, False):
        model, _ = random_model(architecture=architecture)
        new_adapter(model.double(), rank=4, alpha=8, seed=1)
        for parameter in adapter_parameters(model):
            parameter.data = parameter.data.double()
        moved(model)
        scorer = fitting_scorer(model)
        assert scorer.in_trees
        assert not scorer.own_head
        scorer.in_trees = in_trees
        scorer.score(trees_of(SEQUENCES)).logps.sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in adapter_parameters(model)]))  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


# --- In its folder


@pytest.fixture
def base(tmp_path: Path) -> ModelRef:
    """A base on disk."""
    return model_ref(save(tmp_path / "base-v0", random_model()))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_an_adapters_folder_is_read_back_by_us_and_by_peft(architecture: str, tmp_path: Path) -> None:
    base = model_ref(save(tmp_path / "base", random_model(architecture=architecture)))
    adapter = write_moved(tmp_path / "adapter", base)
    loaded, tokenizer = load_model(adapter.path)
    assert tokenizer.chat_template == load_model(base.path)[1].chat_template
    found = logps(loaded)
    assert found != logps(load_model(base.path)[0])
    theirs = PeftModel.from_pretrained(load_model(base.path)[0], adapter.path).eval()
    for sequence, ours in zip(SEQUENCES, found, strict=True):
        token_ids = torch.tensor([[*sequence.prompt, *sequence.completion]])
        begin = len(sequence.prompt)
        with torch.no_grad():
            shares = theirs(token_ids, use_cache=False).logits[0, begin - 1 : -1].log_softmax(-1)
        assert float(shares.gather(-1, token_ids[0, begin:, None]).sum()) == pytest.approx(ours, rel=1e-5)


def test_the_hash_of_an_adapter_covers_its_base_wherever_that_lies(tmp_path: Path, base: ModelRef) -> None:
    adapter = write_moved(tmp_path / "adapter", base)
    stated = Path(adapter.path) / "base_model.json"
    content = json.loads(stated.read_text())
    assert content == {"name": "base-v0", "path": base.path, "sha256": base.sha256}
    stated.write_text(json.dumps(content | {"path": "/elsewhere"}))
    assert weights_sha256(Path(adapter.path)) == adapter.sha256
    stated.write_text(json.dumps(content | {"sha256": "0" * 64}))
    assert weights_sha256(Path(adapter.path)) != adapter.sha256


def test_a_base_that_is_missing_or_another_is_told(tmp_path: Path, base: ModelRef) -> None:
    adapter = write_moved(tmp_path / "adapter", base)
    assert verify_model(adapter) == Path(adapter.path)
    shutil.move(base.path, tmp_path / "moved")
    with pytest.raises(ModelError, match=r"adapter is an adapter on base-v0\. There is no model folder at"):
        verify_model(adapter)
    there = base.model_copy(update={"path": str(tmp_path / "moved")})
    assert verify_model(adapter.model_copy(update={"base": there})) == Path(adapter.path)
    save(Path(base.path), random_model(seed=5))
    with pytest.raises(ModelError, match=r"adapter on base-v0\. The files of base-v0 in .* have changed"):
        verify_model(adapter)


def test_an_adapter_of_another_kind_or_for_another_model_is_told(tmp_path: Path, base: ModelRef) -> None:
    folder = Path(write_moved(tmp_path / "adapter", base).path)
    with pytest.raises(ModelError, match="does not fit its base"):
        load_adapter(random_model(architecture="gpt2")[0], folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"modules_to_save": ["lm_head"]}))
    with pytest.raises(ModelError, match="another kind than LoRA"):
        load_model(folder)
    (folder / "base_model.json").unlink()
    with pytest.raises(ModelError, match="its base is not known"):
        load_model(folder)


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path, base: ModelRef) -> None:
    model, _ = load_model(write_moved(tmp_path / "adapter", base).path)
    (tmp_path / "again").mkdir()
    write_adapter_files(model, tmp_path / "again", base=base)
    for name in ("adapter_config.json", "adapter_model.safetensors", "base_model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_merged_adapter_is_an_ordinary_model_with_the_same_log_probabilities(
    architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = model_ref(save(tmp_path / "base", random_model(architecture=architecture)))
    adapter = write_moved(tmp_path / "adapter", base)
    arguments = ["merge", adapter.path, str(tmp_path / "merged")]
    assert main(arguments) == ExitCode.DONE
    merged, _ = load_model(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert logps(merged) == pytest.approx(logps(load_model(adapter.path)[0]), rel=1e-6)
    assert main(arguments) == ExitCode.FAILED
    assert "is there already" in capsys.readouterr().err
    assert main(["merge", base.path, str(tmp_path / "other")]) == ExitCode.FAILED
    assert "holds no adapter" in capsys.readouterr().err
    shutil.move(base.path, tmp_path / "moved")
    assert main(["merge", adapter.path, str(tmp_path / "other")]) == ExitCode.FAILED
    assert main(["merge", adapter.path, str(tmp_path / "other"), "--base", str(tmp_path / "moved")]) == ExitCode.DONE


# --- As what a run trains


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, vowel_snapshot: SnapshotRef) -> Path:
    """A run of LoRA that nothing interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    write_run(folder, snapshot=vowel_snapshot, model=tiny_model, **{**QUICK, "hyperparameters": LORA})
    assert run(folder) == ExitCode.DONE
    return folder


def trained_ref(folder: Path) -> ModelRef:
    """What a run wrote."""
    return model_ref(folder / MODEL_FOLDER).model_copy(update={"name": "tiny-v1"})


def test_a_run_with_lora_learns_what_was_preferred_and_writes_an_adapter(unbroken: Path, tiny_model: Path) -> None:
    report = report_of(unbroken)
    assert report.after is not None
    assert report.after.preferences.reward_accuracy is not None
    assert report.after.preferences.reward_accuracy > 0.9
    assert report.hashes["base"] == weights_sha256(tiny_model)
    assert report.hashes["model"] == weights_sha256(unbroken / MODEL_FOLDER)
    names = {path.name for path in (unbroken / MODEL_FOLDER).iterdir()}
    assert names == {
        *("adapter_config.json", "adapter_model.safetensors", "base_model.json"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"),
    }
    pairs = report.after.preferences.pairs
    assert len(pairs) == 16
    model, _ = load_model(unbroken / MODEL_FOLDER)
    assert logps(model) != logps(load_model(tiny_model)[0])


@pytest.mark.parametrize("tuning", [Tuning.LORA, Tuning.LORA_TOP])
@pytest.mark.parametrize("rows_until_interrupted", [16, 33])
def test_an_interrupted_run_with_lora_ends_with_the_same_numbers(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    rows_until_interrupted: int,
    unbroken: Path,
    tuning: Tuning,
) -> None:
    settings = LORA.model_copy(update={"tuning": tuning, "lora_layers": 1})
    if tuning is Tuning.LORA_TOP:
        unbroken = make_run("unbroken", hyperparameters=settings)
        assert run(unbroken) == ExitCode.DONE
    folder = make_run("broken", hyperparameters=settings)
    interrupt_at(monkeypatch, rows_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    monkeypatch.setattr(memory, "bytes_left", lambda device: 0)
    assert run(folder) == ExitCode.DONE
    assert report_of(folder).resumed == 1
    assert numbers_of(folder) == numbers_of(unbroken)


def test_checkpoints_hold_the_adapter_and_its_moments_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.run.discard_checkpoints", lambda folder: None)
    folder = make_run(hyperparameters=LORA)
    assert run(folder) == ExitCode.DONE
    state = torch.load(folder / "checkpoints" / "step-20" / "state.pt", weights_only=True)
    adapter = load_file(folder / MODEL_FOLDER / "adapter_model.safetensors")
    assert len(state["model"]) == len(state["optimizer"]["state"]) == len(adapter) == 28
    assert all(".lora_" in name for name in state["model"])


def test_merged_on_request_a_run_writes_a_full_model(make_run: MakeRun, unbroken: Path) -> None:
    folder = make_run(hyperparameters=LORA.model_copy(update={"merged": True}))
    assert run(folder) == ExitCode.DONE
    assert "base" not in report_of(folder).hashes
    assert (folder / MODEL_FOLDER / "model.safetensors").is_file()
    merged, _ = load_model(folder / MODEL_FOLDER)
    adapted, _ = load_model(unbroken / MODEL_FOLDER)
    assert logps(merged) == pytest.approx(logps(adapted), rel=1e-5)


def test_the_starter_takes_an_adapter_and_is_measured_as_it_will_be_served(make_run: MakeRun) -> None:
    starter = Path(__file__).parents[2] / "trainer" / "starter" / "model"
    folder = make_run(model=starter, hyperparameters=LORA.model_copy(update={"epochs": 1.0}))
    assert run(folder) == ExitCode.DONE
    report = report_of(folder)
    assert report.after is not None
    model, tokenizer = load_model(folder / MODEL_FOLDER)
    request = read_request(folder)
    snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
    groups, _ = preference_groups(ranked_texts(snapshot.held_out)[0], tokenizer, max_tokens=256)
    found = held_out_preferences(fitting_scorer(model), None, preference_pairs(groups))
    measured = {pair.chosen_id: pair.chosen_logp for pair in report.after.preferences.pairs}
    assert {pair.chosen_id: pair.chosen_logp for pair in found.pairs} == pytest.approx(measured, rel=1e-6)


def test_training_on_from_an_adapter_trains_that_adapter_against_the_stated_reference(
    make_run: MakeRun, unbroken: Path, tiny_model: Path
) -> None:
    start = trained_ref(unbroken)
    settings = LORA.model_copy(update={"tuning": Tuning.AUTO, "lora_rank": 9})
    folders = [
        make_run("to-base", start=start, hyperparameters=settings),
        make_run("to-itself", start=start, reference=start, hyperparameters=settings),
    ]
    for folder in folders:
        assert run(folder) == ExitCode.DONE
    to_base, to_itself = (report_of(folder) for folder in folders)
    assert to_base.before is not None
    assert to_itself.before is not None
    assert to_base.before.preferences.reward_accuracy is not None
    assert to_base.before.preferences.reward_accuracy > 0.9, "measured against the base, not against itself"
    assert to_base.before.behaviour.drift != 0
    assert to_itself.before.preferences.reward_accuracy is None
    assert to_itself.before.behaviour.drift == 0
    for folder in folders:
        written = json.loads((folder / MODEL_FOLDER / "adapter_config.json").read_text())
        assert written["r"] == 4, "it keeps its own shape"
        assert json.loads((folder / MODEL_FOLDER / "base_model.json").read_text())["path"] == str(tiny_model)
    before = load_file(unbroken / MODEL_FOLDER / "adapter_model.safetensors")
    after = load_file(folders[0] / MODEL_FOLDER / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_all_weights_can_be_trained_on_from_an_adapter(make_run: MakeRun, unbroken: Path) -> None:
    settings = QUICK["hyperparameters"].model_copy(update={"tuning": Tuning.FULL})
    folder = make_run(start=trained_ref(unbroken), hyperparameters=settings)
    assert run(folder) == ExitCode.DONE
    assert (folder / MODEL_FOLDER / "model.safetensors").is_file()
    assert "base" not in report_of(folder).hashes


def test_a_run_whose_adapter_has_lost_its_base_says_which(make_run: MakeRun, tmp_path: Path, base: ModelRef) -> None:
    adapter = write_moved(tmp_path / "adapter", base)
    shutil.rmtree(base.path)
    assert "adapter is an adapter on base-v0" in failed(make_run(start=adapter))


def request_for(start: ModelRef, **settings: Any) -> RunRequest:
    """A request that nothing but models is looked at of."""
    return RunRequest(
        run_id="1",
        version_name="v1",
        snapshot=SnapshotRef(path="", rows_sha256=""),
        base_model=start,
        start=start,
        reference=start,
        hyperparameters=Hyperparameters(**settings),
    )


def test_large_models_get_an_adapter_unless_the_request_says_otherwise(
    base: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert planned(request_for(base)).kind is Tuning.FULL
    monkeypatch.setattr("trainer.tuning.stored_parameters", lambda folder: LORA_ABOVE_PARAMETERS + 1)
    assert planned(request_for(base)).kind is Tuning.LORA
    assert planned(request_for(base, tuning="full")).kind is Tuning.FULL
    assert planned(request_for(base, tuning="lora_top")).kind is Tuning.LORA_TOP


@pytest.mark.parametrize(
    ("parameters", "tuning", "method", "rate"),
    [
        (4_000_000, "full", "dpo", 2e-4),
        (20_000_000, "full", "kto", 2e-4),
        (360_000_000, "full", "dpo", 1.1e-5),
        (7_000_000_000, "full", "dpo", 5.7e-7),
        (7_000_000_000, "lora", "dpo", 5.7e-6),
        (7_000_000_000, "lora_top", "simpo", 5.7e-6),
        (7_000_000_000, "full", "sft", 5.7e-6),
        (6_000_000_000, "full", "reward_model", 6.7e-6),
        (7_000_000_000, "lora", "sft", 5.7e-5),
        (100_000_000, "lora", "dpo", 2e-4),
    ],
)
def test_the_usual_rate_goes_by_size_and_by_what_is_trained(
    base: ModelRef, monkeypatch: pytest.MonkeyPatch, parameters: int, tuning: str, method: str, rate: float
) -> None:
    plan = planned(request_for(base, tuning=tuning))
    monkeypatch.setattr("trainer.rates.stored_parameters", lambda folder: parameters)
    assert usual_rate(Method(method), plan) == rate


def test_weights_that_lie_beside_those_that_are_loaded_do_not_count(base: ModelRef, tmp_path: Path) -> None:
    whole = Path(base.path)
    expected = sum(tensor.numel() for tensor in load_file(whole / "model.safetensors").values())
    assert stored_parameters(whole) == expected
    shutil.copy(whole / "model.safetensors", tmp_path / "consolidated.safetensors")
    shutil.copy(whole / "model.safetensors", tmp_path / "model-00001-of-00001.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    assert stored_parameters(tmp_path) == expected
    index.write_text("[]")
    with pytest.raises(ModelError, match="names no weight files"):
        stored_parameters(tmp_path)
    index.unlink()
    shutil.copy(whole / "model.safetensors", tmp_path)
    assert stored_parameters(tmp_path) == expected


def test_the_disk_is_asked_for_what_is_trained(base: ModelRef) -> None:
    needed = {}
    for tuning, merged in (("full", False), ("lora", False), ("lora", True)):
        prepared = prepare(request_for(base, tuning=tuning, merged=merged, lora_rank=1))
        needed[tuning, merged] = needed_disk_bytes(prepared.policy, prepared.plan)
    whole = sum(parameter.nbytes for parameter in load_model(base.path)[0].parameters())
    adapter = needed["lora", False] // 10
    assert needed["full", False] == 10 * whole
    assert adapter < whole / 10
    assert needed["lora", True] > needed["lora", False] + 0.9 * whole


def test_policy_and_reference_share_a_base_in_memory(base: ModelRef) -> None:
    prepared = prepare(request_for(base, tuning="lora"))
    ours = {parameter.data_ptr() for parameter in prepared.policy.parameters()}
    theirs = {parameter.data_ptr() for parameter in prepared.reference.parameters()}
    assert theirs < ours
    assert not any(parameter.requires_grad for parameter in prepared.reference.parameters())


# --- Beside a base in another number format


def test_an_adapter_in_float32_beside_a_base_in_bfloat16_says_and_learns_within_rounding_what_it_does_in_float32() -> (
    None
):
    found = []
    for autocast in (None, torch.bfloat16):
        model, _ = random_model(seed=4)
        new_adapter(model, rank=4, alpha=8, seed=1)
        moved(model)
        train_adapter_alone(model)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                rounded = parameter.data.bfloat16()
                parameter.data = rounded if autocast else rounded.float()
        scorer = fitting_scorer(model, autocast=autocast)
        assert scorer.in_trees
        logps = scorer.score(trees_of(SEQUENCES)).logps
        logps.sum().backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in adapter_parameters(model)]
        assert all(gradient is not None and gradient.dtype is torch.float32 for gradient in gradients)
        found.append((logps.detach(), torch.cat([each.flatten() for each in gradients if each is not None])))
    (exact, exact_gradient), (coarse, coarse_gradient) = found
    assert not torch.equal(exact, coarse)
    assert ((coarse - exact).abs() <= 0.01 * exact.abs()).all()
    assert torch.cosine_similarity(exact_gradient, coarse_gradient, dim=0) > 0.99
