"""`palate user`: let people in, and help those who are locked out."""

from typing import Annotated

import typer
from rich.table import Table

from app.accounts.models import Role
from app.accounts.service import links, people
from app.clock import utc_now
from app.commands.surroundings import command_database, console, counted
from app.datasets.service.forgetting import forget_person, held_of
from app.datasets.service.withdrawing import delete_withdrawn_files, list_withdrawn
from app.settings import Settings
from app.starter import first_admin_path
from app.templating import moment

cli = typer.Typer(help="Let people in, and help those who are locked out.", no_args_is_help=True)

EmailArgument = Annotated[str, typer.Argument(help="Their email address.")]


@cli.command("list")
def list_users() -> None:
    """List everybody, with role and last visit."""
    with command_database() as (_, sessions), sessions.begin() as session:
        table = Table("Email", "Name", "Role", "State", "Last seen")
        for person in people.list_people(session):
            state = "active" if person.is_active else "deactivated"
            table.add_row(person.email, person.name, person.role.value, state, moment(person.last_seen_at))
        console.print(table)


@cli.command()
def invite(
    email: Annotated[str | None, typer.Argument(help="Filled in for them; they may change it.")] = None,
    role: Annotated[Role, typer.Option(help="What campaigns may grant them.")] = Role.ANNOTATOR,
) -> None:
    """Print an invitation link: it lets one person join."""
    with command_database() as (settings, sessions), sessions.begin() as session:
        fresh = links.create_invitation(session, role=role, email=email, created_by_id=None, now=utc_now())
        _print_link(settings, fresh.path, "This link lets one person join")


@cli.command("admin-link")
def admin_link() -> None:
    """Print a one-time link for the first admin; earlier ones stop working."""
    with command_database() as (settings, sessions), sessions.begin() as session:
        _print_link(settings, first_admin_path(session, now=utc_now()), "Open this link once to become the first admin")


@cli.command("reset-link")
def reset_link(email: EmailArgument) -> None:
    """Print a link by which somebody chooses a new password."""
    with command_database() as (settings, sessions), sessions.begin() as session:
        user = people.get_user_by_email(session, email)
        fresh = links.create_password_reset(session, user=user, created_by_id=None, now=utc_now())
        _print_link(settings, fresh.path, f"This link lets {user.name} choose a new password")


@cli.command()
def create(
    email: EmailArgument,
    name: Annotated[str, typer.Option(help="How others see them.", prompt=True)],
    password: Annotated[str, typer.Option(help="At least 10 characters.", prompt=True, hide_input=True)],
    role: Annotated[Role, typer.Option(help="What campaigns may grant them.")] = Role.ANNOTATOR,
) -> None:
    """Take somebody in with a password of yours; `invite` lets them choose their own."""
    with command_database() as (_, sessions), sessions.begin() as session:
        people.create_user(session, email=email, name=name, role=role, password=password, now=utc_now())
    console.print(f"{name} may sign in as {email}.")


@cli.command()
def role(email: EmailArgument, role: Annotated[Role, typer.Argument(help="Their new role.")]) -> None:
    """Change somebody's role."""
    with command_database() as (_, sessions), sessions.begin() as session:
        user = people.get_user_by_email(session, email)
        people.set_role(session, user=user, role=role, by_id=None, now=utc_now())
    console.print(f"{user.name} is now {role.value}.")


@cli.command()
def deactivate(email: EmailArgument) -> None:
    """Shut somebody out at once. Their judgments stay."""
    with command_database() as (_, sessions), sessions.begin() as session:
        user = people.get_user_by_email(session, email)
        people.deactivate_user(session, user=user, by_id=None, now=utc_now())
    console.print(f"{user.name} can no longer sign in. `palate user reactivate {email}` undoes this.")


@cli.command()
def reactivate(email: EmailArgument) -> None:
    """Let somebody in again."""
    with command_database() as (_, sessions), sessions.begin() as session:
        user = people.get_user_by_email(session, email)
        people.reactivate_user(session, user=user, by_id=None, now=utc_now())
    console.print(f"{user.name} may sign in again.")


@cli.command()
def forget(
    email: EmailArgument,
    confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase somebody who asks for it: account, judgments, and the snapshots that hold these. Not to be undone."""
    with command_database() as (settings, sessions):
        with sessions.begin() as session:
            user = people.get_user_by_email(session, email)
            held = held_of(session, user_id=user.id)
        console.print(
            f"{user.name}: {counted(held.judgments, 'judgment')} would be erased, and "
            f"{counted(len(held.snapshots), 'snapshot')} withdrawn. Versions trained on them and backups stay.",
            soft_wrap=True,
        )
        if not confirmed:
            typer.confirm("Erase for good?", abort=True)
        with sessions.begin() as session:
            forget_person(session, user=people.get_user(session, user.id), by_id=None, now=utc_now())
        with sessions.begin() as session:
            withdrawn = list_withdrawn(session)
        for snapshot in withdrawn:
            delete_withdrawn_files(settings, snapshot)
    console.print("Erased. Backups made before still hold it: make a new one and delete those.", soft_wrap=True)


def _print_link(settings: Settings, path: str, meaning: str) -> None:
    address = str(settings.base_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    console.print(f"{meaning}:\n  {address}{path}", soft_wrap=True, highlight=False)
