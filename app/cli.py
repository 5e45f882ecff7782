"""The `palate` command: starts the parts, and does from a terminal what the pages do."""

import errno
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from psycopg.errors import DiskFull
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.exc import OperationalError

from app.commands import comparisons, endpoints, operation, prompts, runs, snapshots, users
from app.commands.surroundings import opened_database
from app.errors import DomainError, Unavailable
from app.operation.living import keep_telling
from app.settings import Settings, load_settings, with_secrets
from app.stack.ports import is_loopback, refuse_taken_port, refuse_without_address
from app.stack.up import run_stack
from app.starter import prepare

cli = typer.Typer(
    name="palate",
    help="Collect preferences, train a language model on them, and serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.add_typer(users.cli, name="user")
cli.add_typer(prompts.cli, name="prompts")
cli.add_typer(comparisons.cli, name="comparisons")
cli.add_typer(snapshots.cli, name="snapshot")
cli.add_typer(endpoints.cli, name="endpoint")
cli.add_typer(runs.cli)
cli.add_typer(operation.cli)
console = Console()

HostOption = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="PALATE_HOST or 127.0.0.1")]
PortOption = Annotated[int | None, typer.Option(help="Port of the pages.", show_default="PALATE_PORT or 8000")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Folder for everything that Palate keeps.", show_default="PALATE_DATA_DIR or palate-data"),
]


@cli.command()
def up(host: HostOption = None, port: PortOption = None, data_dir: DataDirOption = None) -> None:
    """Start everything on this machine and print the address. Ctrl-C stops it in order."""
    chosen = {"host": host, "port": port, "data_dir": data_dir}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = with_secrets(Settings(**given))  # type: ignore[arg-type]
    run_stack(settings, prepare=_prepare_and_tell, console=console)


def _prepare_and_tell(settings: Settings) -> str | None:
    assert settings.database_url is not None
    keep_telling(settings.database_url, kind="supervisor")
    return prepare(settings)


@cli.command()
def web(
    host: HostOption = None,
    port: PortOption = None,
    workers: Annotated[int, typer.Option(help="Processes that serve pages.")] = 1,
) -> None:
    """Serve the pages."""
    import uvicorn

    settings = load_settings()
    refuse_without_address(host or settings.host, settings.base_url)
    refuse_taken_port(host or settings.host, port or settings.port)
    with opened_database(settings) as settings:
        assert settings.database_url is not None
        os.environ["DATABASE_URL"] = settings.database_url
        uvicorn.run(
            "app.main:from_environment",
            factory=True,
            host=host or settings.host,
            port=port or settings.port,
            workers=workers,
            log_config=None,  # each process sees to its own, in from_environment
            access_log=False,
            proxy_headers=True,
            timeout_graceful_shutdown=5,
            timeout_worker_healthcheck=20,  # on a busy machine one of several is slow to start, and not to be killed
            timeout_keep_alive=75,  # people read for a while before they decide
        )


@cli.command()
def worker(concurrency: Annotated[int, typer.Option(help="Jobs at a time.")] = 6) -> None:
    """Run the background jobs: generation, imports, snapshots, training runs, deployments."""
    from app.worker import run_worker

    with opened_database(load_settings()) as settings:
        run_worker(settings, concurrency=concurrency)


@cli.command("model-server", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def model_server(context: typer.Context) -> None:
    """Serve the models (OpenAI-compatible). Further options go to `python -m trainer serve`."""
    if find_spec("torch") is None:
        raise Unavailable("Serving models needs the trainer's packages. Install them: `pip install 'palate[trainer]'`.")
    settings = load_settings()
    assert settings.model_server_token is not None
    address = settings.model_server_url.removeprefix("http://").rstrip("/")
    host, _, port = address.partition(":")
    roots = [option for root in settings.allowed_model_roots for option in ("--allowed-root", str(root))]
    budget = settings.model_memory_megabytes
    memory = [] if budget is None else ["--max-model-bytes", str(budget * 1_000_000)]
    token = settings.model_server_token.get_secret_value()
    os.environ.update(settings.log_environment)
    os.environ["PALATE_MODEL_SERVER_TOKEN"] = token
    if not is_loopback(host):
        os.environ.setdefault("PALATE_MODEL_SERVER_API_KEY", token)  # Palate's own requests carry the token
    arguments = ["-m", "trainer", "serve", "--host", host, "--port", port or "8001", *roots, *memory, *context.args]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606


@cli.command()
def migrate(
    prepared: Annotated[
        bool, typer.Option("--prepare", help="Also fill an empty installation, and print the first admin's link.")
    ] = False,
) -> None:
    """Bring the database to the schema of this code."""
    with opened_database(load_settings()) as settings:
        console.print("The database is at the newest revision.")
        link = prepare(settings) if prepared else None
    if link is not None:
        address = str(settings.base_url or f"http://{settings.host}:{settings.port}").rstrip("/")
        console.print("Open this link once to become the first admin:", f"{address}{link}", sep="\n  ", soft_wrap=True)


Trouble = (DomainError, OperationalError, OSError, ValidationError)
FILE_TROUBLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def main() -> None:
    """Entry point: whatever is refused or out of order is said in a sentence or two, not in a traceback."""
    try:
        cli()
    except Trouble as error:
        said = in_words(error)
        if said is None:
            raise
        Console(stderr=True).print(said, soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)


def in_words(error: BaseException) -> str | None:
    """What went wrong and what to do about it; None for a fault that only a traceback explains."""
    if isinstance(error, DomainError):
        return f"{error.title}. {error.message}"
    if isinstance(error, ValidationError):
        return _unreadable_settings(error) if error.title == Settings.__name__ else None
    if isinstance(error, OperationalError):
        return _database_trouble(error)
    return _file_trouble(error) if isinstance(error, OSError) else None


def _file_trouble(error: OSError) -> str | None:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        place = error.filename or "the data folder"
        return f"The disk is full: {place} could not be written. Free some space, then run the command again."
    if error.errno in FILE_TROUBLE and error.filename:
        return (
            f"{error.filename} cannot be used: {error.strerror}. Check the path and its permissions. The data folder "
            "is another one if you set PALATE_DATA_DIR."
        )
    return None


def _unreadable_settings(error: ValidationError) -> str:
    wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    return f"The settings cannot be used. {wrong}. Correct the PALATE_… variables of the environment or the options."


def _database_trouble(error: OperationalError) -> str:
    if isinstance(error.orig, DiskFull):
        return f"The database's disk is full. {error.orig}\nFree some space, then run the command again."
    return (
        f"The database does not answer. {error.orig}\n"
        "Check DATABASE_URL and that PostgreSQL runs there, or unset it to use the embedded PostgreSQL."
    )


if __name__ == "__main__":
    main()
