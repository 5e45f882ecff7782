"""`palate endpoint`: models on other servers, registered, changed and checked from a terminal."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from app.clock import utc_now
from app.commands.surroundings import command_database, console, named_line
from app.deployments.endpoint_client import checked
from app.deployments.endpoints import Asking, change_endpoint, find_endpoint, note_check, register_endpoint
from app.deployments.models import Endpoint
from app.errors import NotFound
from app.templating import moment

cli = typer.Typer(help="Models on other servers, as sources of completions.", no_args_is_help=True)

AddressOption = Annotated[str, typer.Option("--address", help="What stands before /chat/completions.")]
KeyOption = Annotated[str, typer.Option("--key", help="Name of the variable with the key: PALATE_KEY_….")]
AtOnceOption = Annotated[int, typer.Option("--at-once", min=1, max=64, help="Requests at once, per worker.")]
NOption = Annotated[bool, typer.Option("--n/--no-n", help="Whether one request may ask for several completions.")]
LineArgument = Annotated[str, typer.Argument(help="Short name of its model line.")]


@cli.command()
def add(
    slug: Annotated[str, typer.Argument(help="Short name of the new model line: lower-case letters, digits, dashes.")],
    *,
    address: AddressOption,
    model: Annotated[str, typer.Option(help="What that server calls the model.")],
    name: Annotated[str, typer.Option(help="What people see.")] = "",
    key: KeyOption = "",
    at_once: AtOnceOption = 4,
    n: NOption = True,
) -> None:
    """Make a model of another server a model line that campaigns can follow or stay with."""
    asking = Asking(base_url=address, key_variable=key, concurrency=at_once, gives_n=n)
    with command_database() as (settings, sessions), sessions.begin() as session:
        line = register_endpoint(
            session, settings=settings, slug=slug, name=name or slug, model=model, asking=asking, now=utc_now()
        )
        console.print(
            f"{escape(line.name)} is added. `palate endpoint check {slug}` asks it for a word.", soft_wrap=True
        )


@cli.command()
def change(
    line: LineArgument, *, address: AddressOption, key: KeyOption = "", at_once: AtOnceOption = 4, n: NOption = True
) -> None:
    """Ask the same model in another way, at an address it moved to, say."""
    asking = Asking(base_url=address, key_variable=key, concurrency=at_once, gives_n=n)
    with command_database() as (settings, sessions), sessions.begin() as session:
        endpoint = find_endpoint(session, named_line(session, line))
        if endpoint is None:
            raise NotFound(f"The models of {line} lie here; there is no other server to ask.")
        change_endpoint(session, settings=settings, endpoint=endpoint, asking=asking, by_id=None, now=utc_now())
        console.print("Changed.")


@cli.command()
def check(line: LineArgument) -> None:
    """Ask a server for a word, and say what it answered. Ends with 1 where it does not."""
    with command_database() as (settings, sessions):
        with sessions.begin() as session:
            endpoint = find_endpoint(session, named_line(session, line))
        if endpoint is None:
            raise NotFound(f"The models of {line} lie here; `palate doctor` looks at them.")
        passed, message = checked(settings, endpoint)
        with sessions.begin() as session:
            note_check(session.get_one(Endpoint, endpoint.version_id), passed=passed, message=message, now=utc_now())
    console.print(message, style=None if passed else "red", markup=False, highlight=False, soft_wrap=True)
    if not passed:
        raise typer.Exit(1)


@cli.command("list")
def list_endpoints() -> None:
    """List the models on other servers."""
    with command_database() as (_, sessions), sessions.begin() as session:
        table = Table("Version", "Address", "Model", "Key", "At once", "n", "Checked")
        for endpoint in session.scalars(select(Endpoint).order_by(Endpoint.version_id)):
            found = {True: "answers, ", False: "does not answer, ", None: ""}[endpoint.check_passed]
            table.add_row(
                endpoint.version.name,
                endpoint.base_url,
                endpoint.model,
                endpoint.key_variable or "none",
                str(endpoint.concurrency),
                "yes" if endpoint.gives_n else "no",
                found + moment(endpoint.checked_at),
            )
        console.print(table)
