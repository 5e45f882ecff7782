"""Other servers as sources of completions: registering one as a line of its own, and changing how it is asked."""

import re
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from app.audit import record_deed
from app.deployments.models import Endpoint, ModelLine, ModelVersion
from app.deployments.service import base_version, create_line
from app.errors import Invalid
from app.outgoing import checked_url
from app.settings import KEY_PREFIX, Settings
from app.wording import gettext as _

MOST_AT_ONCE = 64
LONGEST_ADDRESS = 500
LONGEST_MESSAGE = 2000
_KEY_VARIABLE = re.compile(rf"{KEY_PREFIX}[A-Z0-9_]{{1,60}}")


@dataclass(frozen=True)
class Asking:
    """How a server is asked; all of it may change without its model becoming another."""

    base_url: str
    key_variable: str = ""
    concurrency: int = 4
    gives_n: bool = True


def tidied_address(settings: Settings, address: str) -> str:
    """An endpoint's base address. Raises Invalid, saying what to do."""
    if len(address) > LONGEST_ADDRESS:
        raise Invalid(_("This address is too long."))
    address = re.sub(r"/(chat/)?completions/?$", "", address.strip())
    return checked_url(address, listed=settings.endpoint_origins)


def tidied_key_variable(name: str) -> str:
    """The name of a variable that may hold a key. Raises Invalid: any other could be any secret of the machine."""
    name = name.strip()
    if name and _KEY_VARIABLE.fullmatch(name) is None:
        raise Invalid(
            _("Name a variable that begins with %(prefix)s, in capitals: PALATE_KEY_OPENAI, say.", prefix=KEY_PREFIX)
        )
    return name


def register_endpoint(
    session: Session,
    *,
    settings: Settings,
    slug: str,
    name: str,
    model: str,
    asking: Asking,
    now: datetime,
    description: str = "",
    by_id: int | None = None,
) -> ModelLine:
    """A new line whose only version is a model on another server; it serves as `current` at once.

    Raises Invalid for an address or a variable that will not do, Conflict where the slug is taken.
    """
    asking = _tidied(settings, asking)
    if not model.strip() or "\0" in model:
        raise Invalid(_("Name the model to ask for, as that server calls it."))
    line = create_line(
        session, slug=slug, name=name, description=description, path="", sha256="", by_id=by_id, now=now,
        endpoint=Endpoint(model=model.strip(), **asdict(asking)),
    )  # fmt: skip
    record_deed(
        session, action="endpoint.registered", subject=line, subject_id=line.id, actor_id=by_id, now=now,
        model=model.strip(), **asdict(asking),
    )  # fmt: skip
    return line


def change_endpoint(
    session: Session, *, settings: Settings, endpoint: Endpoint, asking: Asking, by_id: int | None, now: datetime
) -> None:
    """Ask the same model in another way: at an address it moved to, say."""
    asking = _tidied(settings, asking)
    for name, value in asdict(asking).items():
        setattr(endpoint, name, value)
    endpoint.checked_at, endpoint.check_passed, endpoint.check_message = None, None, ""
    session.flush()
    record_deed(
        session, action="endpoint.changed", subject=endpoint, subject_id=endpoint.version_id, actor_id=by_id, now=now,
        **asdict(asking),
    )  # fmt: skip


def note_check(endpoint: Endpoint, *, passed: bool, message: str, now: datetime) -> None:
    """Keep what a check found, for whoever looks later."""
    endpoint.checked_at, endpoint.check_passed, endpoint.check_message = now, passed, message[:LONGEST_MESSAGE]


def _tidied(settings: Settings, asking: Asking) -> Asking:
    if not 1 <= asking.concurrency <= MOST_AT_ONCE:
        raise Invalid(_("Choose a number of requests from 1 to %(most)s.", most=MOST_AT_ONCE))
    return Asking(
        base_url=tidied_address(settings, asking.base_url),
        key_variable=tidied_key_variable(asking.key_variable),
        concurrency=asking.concurrency,
        gives_n=asking.gives_n,
    )


def find_endpoint(session: Session, line: ModelLine) -> Endpoint | None:
    """The endpoint of a line, or None where its models lie here."""
    version: ModelVersion = base_version(session, line_id=line.id)
    return version.endpoint
