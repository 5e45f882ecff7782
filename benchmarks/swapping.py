"""Deploying a version on a running model server: an adapter on a base that is loaded, against a full copy.

    python -m benchmarks.swapping [--rounds 5]

A Llama of 12.5 million random parameters serves; adapters of rank 16 on all its linear layers and full copies of it
are loaded in turn, the alias is moved, and the time until both are answered is measured, with the server's CPU time.
The first adapter is told apart: with it the server reads peft.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from transformers.utils.logging import disable_progress_bar

from benchmarks.model_servers import Server, palate_server
from benchmarks.processor import cpu_seconds
from benchmarks.serving import random_llama
from tests.factories.serving import save
from trainer.adapters import adapter_parameters, new_adapter
from trainer.artifact import write_adapter
from trainer.contract.files import weights_sha256
from trainer.contract.run import ModelRef
from trainer.contract.server import LoadVersion, PointAlias
from trainer.models import load_model
from trainer.serving.settings import ADMIN_TOKEN_VARIABLE

TOKEN = "a token for this benchmark alone"  # noqa: S105
RANK = 16


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    disable_progress_bar()
    os.environ[ADMIN_TOKEN_VARIABLE] = TOKEN
    with tempfile.TemporaryDirectory(prefix="palate-swapping-") as name:
        base = save(Path(name) / "base", random_llama(torch.device("cpu")))
        adapters = [_adapter(base, Path(name) / f"adapter-{number}", seed=number) for number in range(rounds + 1)]
        copies = [_copy(base, Path(name) / f"copy-{number}", seed=number) for number in range(rounds)]
        with palate_server(base) as server:
            first = _swapped(server, adapters[0])
            times = {"a full copy": [_swapped(server, folder) for folder in copies]}
            times["an adapter, its base loaded"] = [_swapped(server, folder) for folder in adapters[1:]]
    print("| deployed | milliseconds until it serves | CPU milliseconds of the server | bytes of weights |")
    print("|---|---|---|---|")
    print(f"| the first adapter | {1000 * first[0]:.0f} | {1000 * first[1]:.0f} | {first[2]:,} |")
    for what, found in times.items():
        wall, cpu = (1000 * median(each[place] for each in found) for place in (0, 1))
        print(f"| {what} | {wall:.0f} | {cpu:.0f} | {found[0][2]:,} |")


def _adapter(base: Path, folder: Path, *, seed: int) -> Path:
    model, _ = load_model(base)
    new_adapter(model, rank=RANK, alpha=2 * RANK, seed=seed)
    for parameter in adapter_parameters(model):
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    write_adapter(model, folder, start=base, base=ModelRef(name="base", path=str(base), sha256=weights_sha256(base)))
    return folder


def _copy(base: Path, folder: Path, *, seed: int) -> Path:
    """All weights, a little different: equal ones would be shared."""
    model, tokenizer = load_model(base)
    torch.manual_seed(seed)
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(0.01 * torch.randn(()))
    return save(folder, (model, tokenizer))


def _swapped(server: Server, folder: Path) -> tuple[float, float, int]:
    """Seconds and CPU seconds from asking for a version until the alias points at it; the bytes of its weights."""
    wanted = LoadVersion(name=folder.name, path=str(folder), sha256=weights_sha256(folder))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    begun, cpu = time.monotonic(), cpu_seconds(server.pid)
    loaded = server.http.post("/admin/versions", json=wanted.model_dump(), headers=headers)
    assert loaded.is_success, loaded.text
    pointed = PointAlias(alias="line/current", version=folder.name).model_dump()
    assert server.http.put("/admin/aliases", json=pointed, headers=headers).is_success
    took = time.monotonic() - begun, cpu_seconds(server.pid) - cpu
    return *took, sum(path.stat().st_size for path in folder.glob("*.safetensors"))


if __name__ == "__main__":
    main()
