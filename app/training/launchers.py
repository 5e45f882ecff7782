"""How a run's trainer is started: as one process, or as several that train together."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.settings import Settings
from trainer.contract.run import Method, RunRequest, Tuning


class Launcher(Protocol):
    """Names the command that carries out the run in a folder. What it starts must hold the run's lock while it works,
    leave with a checkpoint on SIGTERM, and write the report last: anything that ends in `python -m trainer run` does.
    """

    def command(self, folder: Path) -> list[str]:
        """The command, to be started in a session of its own."""


@dataclass(frozen=True)
class OneProcess:
    """The trainer alone."""

    def command(self, folder: Path) -> list[str]:
        """Python on this machine."""
        return [sys.executable, "-m", "trainer", "run", str(folder)]


@dataclass(frozen=True)
class Torchrun:
    """So many processes on this machine, which share out every batch, and where `sharded` the model too."""

    processes: int
    sharded: bool = False

    def command(self, folder: Path) -> list[str]:
        """torchrun, which starts nothing again by itself: the worker does, and counts how often that is in vain."""
        ranks = ["--standalone", "--nproc-per-node", str(self.processes), "--max-restarts", "0"]
        run = ["-m", "trainer", "run", str(folder), *(["--sharded"] if self.sharded else [])]
        return [sys.executable, "-m", "torch.distributed.run", *ranks, *run]


def launcher_for(settings: Settings, request: RunRequest) -> Launcher:
    """As the settings have it, as far as such a run can be carried out that way."""
    if settings.trainer_processes == 1 or request.method is Method.REWARD_MODEL:
        return OneProcess()
    holds_all = request.hyperparameters.tuning is Tuning.LORA_TOP
    return Torchrun(settings.trainer_processes, sharded=settings.trainer_sharded and not holds_all)
