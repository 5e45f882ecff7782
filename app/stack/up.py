"""`palate up`: everything on one machine, from the database to the first page.

Order of starting: database, migrations, starter campaign, web, and once it answers the model server and the worker,
which nobody waits for yet and which would take its processor. Stopping: web, worker, model server, database.
Each child can crash at any time and is started again.
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from app.database import make_engine
from app.errors import Conflict, Unavailable
from app.settings import MODEL_SERVER_NOTE, Settings
from app.stack.migrations import migrate
from app.stack.ports import free_port, refuse_taken_port, refuse_without_address
from app.stack.postgres import EmbeddedKeeper, database_keeper, running_database
from app.stack.processes import Child, ChildState

LEAST_FREE_BYTES = 300_000_000
WATCH_SECONDS = 0.2
GIVE_UP_AFTER = 3
"""Crashes of the awaited child after which starting is given up."""

Prepare = Callable[[Settings], str | None]
"""Fills an empty database and returns the first admin's link, if there is no admin yet."""


def run_stack(settings: Settings, *, prepare: Prepare, console: Console) -> None:
    """Start everything, keep it running, stop it on Ctrl-C or SIGTERM."""
    refuse_full_disk(settings.data_dir)
    refuse_without_address(settings.host, settings.base_url)
    refuse_taken_port(settings.host, settings.port)
    started_at = time.monotonic()
    with only_one(settings.data_dir), running_database(settings) as database_url:
        keeper = database_keeper(settings)
        settings = settings.model_copy(update={"database_url": database_url, **_model_server_address(settings)})
        engine = make_engine(database_url)
        migrate(engine)
        engine.dispose()
        link = prepare(settings)
        stack = Stack(stack_children(settings), console, keeper=keeper)
        note = settings.data_dir / MODEL_SERVER_NOTE
        note.write_text(settings.model_server_url)
        try:
            if stack.wait_until_ready():
                _greet(settings, link, console, seconds=time.monotonic() - started_at)
                stack.keep_running()
        finally:
            stack.stop()
            note.unlink(missing_ok=True)
            console.print(f"Stopped. Your data stays in {settings.data_dir}", style="dim")


class Stack:
    """The children of one `palate up`, from start to orderly stop.

    The last child is the one that people wait for: it is started first, and stopped first.
    """

    def __init__(self, children: list[Child], console: Console, *, keeper: EmbeddedKeeper | None = None) -> None:
        self.children = children
        self.console = console
        self.keeper = keeper
        self.stop_requested = _stop_on_signal()

    def wait_until_ready(self) -> bool:
        """Start the last child and wait for it; False if told to stop meanwhile.

        Raises Unavailable where it keeps crashing.
        """
        awaited = self.children[-1]
        with self.console.status("Starting …"):
            while awaited.state is not ChildState.READY and not self.stop_requested():
                self._watch([awaited])
                if awaited.crashes >= GIVE_UP_AFTER:
                    raise Unavailable(f"{awaited.name} does not start. Its log ends with:\n{awaited.last_words()}")
                time.sleep(WATCH_SECONDS / 4)
        return not self.stop_requested()

    def keep_running(self) -> None:
        """Start the others, and watch until told to stop; say each change of a child's state once."""
        shown: dict[str, ChildState] = {}
        while not self.stop_requested():
            self._watch(self.children)
            for child in self.children:
                child.keep_log_small()
                if child.state is not shown.get(child.name):
                    shown[child.name] = child.state
                    self._say(child)
            time.sleep(WATCH_SECONDS)

    def stop(self) -> None:
        """Stop every child, the last one first."""
        for child in reversed(self.children):
            self.console.print(f"Stopping {child.name} …", style="dim")
            child.stop()

    def _watch(self, children: list[Child]) -> None:
        """Look after the database first: without it nothing else can work. A child that does not run is started."""
        if self.keeper is not None and (news := self.keeper.watch()):
            self.console.print(news, style="yellow", soft_wrap=True)
        for child in children:
            child.watch()

    def _say(self, child: Child) -> None:
        if child.state is ChildState.RESTARTING:
            said = f"{child.name} ended (exit {child.last_exit}); starting it again. Log: {child.log}"
            self.console.print(said, style="yellow", soft_wrap=True)
        else:
            self.console.print(f"{child.name}: {child.state.value}", style="dim")


def _greet(settings: Settings, link: str | None, console: Console, *, seconds: float) -> None:
    address = str(settings.base_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    console.print(f"\n[bold]Palate is ready[/bold] after {seconds:.1f} s at {address}", highlight=False)
    if link is not None:
        console.print("\nOpen this link once to become the first admin:")
        console.print(f"  {address}{link}\n", style="bold", soft_wrap=True, highlight=False)
    console.print(f"Logs: {settings.data_dir / 'logs'}   Stop: Ctrl-C\n", style="dim", soft_wrap=True)


def stack_children(settings: Settings) -> list[Child]:
    """The processes of the stack; each needs those before it for its work."""
    palate = [sys.executable, "-m", "app.cli"]
    environment = child_environment(settings)
    logs = settings.data_dir / "logs"
    web = f"http://{settings.host if settings.host != '0.0.0.0' else '127.0.0.1'}:{settings.port}"  # noqa: S104
    return [
        Child("model server", [*palate, "model-server"], environment, logs / "model-server.log",
              f"{settings.model_server_url}/healthz"),
        Child("worker", [*palate, "worker"], environment, logs / "worker.log"),
        Child("web", [*palate, "web"], environment, logs / "web.log", f"{web}/healthz"),
    ]  # fmt: skip


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment that hands these settings to a child."""
    assert settings.database_url is not None
    assert settings.secret_key is not None
    assert settings.model_server_token is not None
    given = {
        "DATABASE_URL": settings.database_url,
        "PALATE_DATA_DIR": str(settings.data_dir),
        "PALATE_HOST": settings.host,
        "PALATE_PORT": str(settings.port),
        "PALATE_MODEL_SERVER_URL": settings.model_server_url,
        "PALATE_MODEL_SERVER_TOKEN": settings.model_server_token.get_secret_value(),
        "PALATE_SECRET_KEY": settings.secret_key.get_secret_value(),
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **given}


def _model_server_address(settings: Settings) -> dict[str, str]:
    """The address that was set, or a free port: two Palates on one machine do not meet."""
    if "model_server_url" in settings.model_fields_set:
        return {}
    return {"model_server_url": f"http://127.0.0.1:{free_port()}"}


def _stop_on_signal() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM came; the first asks for an orderly stop."""
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, _frame: received.append(signum))
    return lambda: bool(received)


def refuse_full_disk(folder: Path) -> None:
    """Raise Unavailable where too little is free for the database to work."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise Unavailable(
            f"Only {free / 1e6:.0f} MB are free where Palate keeps its data ({folder}); it needs at least "
            f"{LEAST_FREE_BYTES / 1e6:.0f} MB. Free some space, or set PALATE_DATA_DIR to another disk."
        )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the data folder for one `palate up`; raises Conflict where another one has it."""
    with (folder / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"Another `palate up` is using {folder}. Use that one, stop it, or set PALATE_DATA_DIR to "
                "another folder."
            ) from error
        yield
