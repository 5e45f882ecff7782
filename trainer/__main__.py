"""`python -m trainer run <folder>`, `merge <folder> <out>`, `serve`, `starter`."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from trainer.allocator import keep_freed_memory

COMMANDS = {
    "serve": ("trainer.serving.server", "serve"),
    "starter": ("trainer.starter.__main__", "app"),
}
"""Commands that read their own arguments: a module, and what of it to call with them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, do what it says, and return the exit code."""
    # Threads that spin while they wait make torch 10 to 60 times slower as soon as something else wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        module, name = COMMANDS[arguments[0]]
        with kept_for_good():
            command = getattr(importlib.import_module(module), name)
        return int(command(arguments[1:]) or 0)
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="carry out a training run, or go on with one that was interrupted",
        description="Carry out the training run in a folder. Exit codes: 0 the run succeeded or had ended before, "
        "1 failed (report.json says why), 2 usage, 3 another trainer holds the run, 4 cancelled, 5 told to leave by "
        "SIGTERM or Ctrl-C: the same command goes on with the run.",
    )
    run.add_argument("folder", type=Path, help="run folder that holds request.json")
    run.add_argument(
        "--sharded",
        action="store_true",
        help="where torchrun starts several processes, have each hold a share of the models alone (FSDP)",
    )
    merge = commands.add_parser(
        "merge",
        help="write an adapter and its base as one model folder",
        description="Write the version in a folder that holds an adapter as an ordinary model folder, which needs no "
        "base. Exit codes: 0 done, 1 it could not be.",
    )
    merge.add_argument("folder", type=Path, help="version folder that holds adapter_config.json")
    merge.add_argument("out", type=Path, help="folder to write, not there yet")
    merge.add_argument("--base", type=Path, help="where the base lies now, if not where base_model.json says")
    commands.add_parser("serve", help="serve model versions over HTTP")
    commands.add_parser("starter", help="make the starter model")
    options = parser.parse_args(arguments)
    if options.command == "merge":
        return carry_out_merge(options.folder, options.out, base=options.base)
    return carry_out_run(options.folder, sharded=options.sharded)


def carry_out_run(folder: Path, *, sharded: bool = False) -> int:
    """Import what training needs, which takes seconds, and carry out the run."""
    keep_freed_memory()
    with kept_for_good():
        from transformers.utils import logging

        from trainer.contract.logs import configure_logs
        from trainer.run import run

    configure_logs("trainer", stream=sys.stdout)

    logging.disable_progress_bar()
    return int(run(folder, must_leave=leave_on_signal(), sharded=sharded))


def carry_out_merge(folder: Path, out: Path, *, base: Path | None) -> int:
    """Merge an adapter into its base, and say how that ended."""
    with kept_for_good():
        from transformers.utils import logging

        from trainer.errors import TrainerError
        from trainer.merging import merge

    logging.disable_progress_bar()
    try:
        merge(folder, out, base_folder=base)
    except (TrainerError, OSError) as error:
        print(f"Nothing was written. {error}", file=sys.stderr)
        return 1
    print(f"The merged model is in {out}.")
    return 0


@contextmanager
def kept_for_good() -> Iterator[None]:
    """For imports: what they make stays, and looking for garbage in it takes a fifth of the time of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave_on_signal() -> Callable[[], bool]:
    """Whether SIGTERM or Ctrl-C came: the run is left after the step it is at. A second one ends it on the spot."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    return lambda: bool(received)


def leave(code: int) -> NoReturn:
    """End the process. One of a group ends at once: threads of the group's library (gloo) may outlive it, and abort a
    process, whose run had succeeded, while Python takes it down."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
