"""Telling the model server what to serve. The database is the truth; the server forgets when it is restarted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.deployments.models import Deployment, ModelLine, ModelVersion
from app.deployments.service import previous_version
from app.errors import Conflict, Unavailable
from app.settings import Settings
from app.wording import gettext as _
from trainer.contract.process import ProcessFacts
from trainer.contract.requests import caused_by
from trainer.contract.server import LoadVersion, PointAlias, RewardTexts, ServerState, TextRewards
from trainer.contract.steps import Step, passing

LOAD_SECONDS = 600.0
"""How long loading may take: large weights come off a disk."""
LOOK_SECONDS = 1.5
"""How long a page waits for the server to say what it serves."""


class ModelServerDown(Unavailable):
    """A model server does not answer, or not now; `retry_after_seconds` is how long it asked to be left alone."""

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ModelServerRefused(Conflict):
    """The model server answers that it will not do this."""


class NotLoaded(ModelServerRefused):
    """The model server does not hold what was named."""


@dataclass(frozen=True)
class Wanted:
    """What the model server should hold: versions in the order in which to load them, aliases, and spares.

    Spares stay if they are loaded, and are not loaded for their own sake.
    """

    versions: list[LoadVersion] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)


class ModelServer:
    """The admin face of one model server. Every method raises ModelServerDown or ModelServerRefused."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def state(self) -> ServerState:
        """What is loaded and what each alias points at."""
        return ServerState.model_validate(self._ask("GET", "/admin/state", timeout=LOOK_SECONDS).json())

    def load(self, version: LoadVersion) -> None:
        """Load a version; returns when it can serve. Loading the same again changes nothing."""
        self._ask("POST", "/admin/versions", json=version.model_dump(exclude_none=True), timeout=LOAD_SECONDS)

    def unload(self, name: str) -> None:
        """Route no more requests to a version; those under way finish on it. One that is gone already is gone."""
        with suppress(NotLoaded):
            self._ask("DELETE", f"/admin/versions/{name}")

    def point(self, alias: str, version: str) -> None:
        """Let an alias stand for a loaded version from the next request on."""
        self._ask("PUT", "/admin/aliases", json=PointAlias(alias=alias, version=version).model_dump())

    def rewards(self, wanted: RewardTexts) -> list[float | None]:
        """What a reward model thinks of texts; the first time this takes as long as loading it."""
        answer = self._ask("POST", "/admin/rewards", json=wanted.model_dump(), timeout=LOAD_SECONDS)
        return TextRewards.model_validate(answer.json()).rewards

    def process(self) -> ProcessFacts:
        """Which process answers; raises ModelServerRefused where that is of a version that does not say."""
        return ProcessFacts.model_validate(self._ask("GET", "/admin/process", timeout=5.0).json())

    def _ask(self, method: str, path: str, *, timeout: float = 30.0, json: Any = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, json=json, timeout=timeout)
        except httpx.HTTPError as error:
            raise ModelServerDown(
                _(
                    "The model server at %(base_url)s does not answer. Is it running? `palate model-server` starts it.",
                    base_url=self._client.base_url,
                )
            ) from error
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise ModelServerDown(_("The model server met an error: %(said)s", said=_said(response)))
        if response.is_error:
            refused = NotLoaded if response.status_code == httpx.codes.NOT_FOUND else ModelServerRefused
            raise refused(_("The model server refused: %(said)s", said=_said(response)))
        return response


def _said(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return _("status %(status_code)s", status_code=response.status_code)


@contextmanager
def connected(settings: Settings) -> Iterator[ModelServer]:
    """The model server that the settings name."""
    assert settings.model_server_token is not None
    headers = {"Authorization": f"Bearer {settings.model_server_token.get_secret_value()}", **caused_by()}
    # A proxy set for the machine must not see the token; redirects are not followed.
    with httpx.Client(base_url=settings.model_server_url, headers=headers, trust_env=False) as client:
        yield ModelServer(client)


# --- What should serve


def load_order(version: ModelVersion) -> LoadVersion:
    """What the model server is told to load for a version."""
    return LoadVersion(**dict(version.reference()))


def wanted(session: Session, *, line_id: int | None = None) -> Wanted:
    """What the server should hold for one line, or for all: whatever an alias points at."""
    query = (
        select(Deployment, ModelVersion, ModelLine)
        .join(ModelVersion, ModelVersion.id == Deployment.version_id)
        .join(ModelLine, ModelLine.id == Deployment.line_id)
        .where(Deployment.until.is_(None), ~ModelVersion.endpoint.has())
        .order_by(Deployment.line_id, Deployment.alias.desc())
    )
    if line_id is not None:
        query = query.where(Deployment.line_id == line_id)
    versions: dict[str, LoadVersion] = {}
    aliases: dict[str, str] = {}
    for deployment, version, line in session.execute(query):
        versions[version.name] = load_order(version)
        aliases[line.alias(deployment.alias)] = version.name
    return Wanted(versions=list(versions.values()), aliases=aliases)


def kept_version_ids(session: Session, *, line_id: int) -> set[int]:
    """Versions of a line that should stay loaded: deployed ones, and the one that a roll-back would deploy."""
    kept = set(
        session.scalars(select(Deployment.version_id).where(Deployment.line_id == line_id, Deployment.until.is_(None)))
    )
    before = previous_version(session, line_id=line_id)
    return kept | ({before.id} if before else set())


def missing(state: ServerState, want: Wanted) -> Wanted:
    """The part of what is wanted that the server does not hold or points elsewhere."""
    loaded = {version.name: version.sha256 for version in state.versions}
    return Wanted(
        versions=[version for version in want.versions if loaded.get(version.name) != version.sha256],
        aliases={alias: name for alias, name in want.aliases.items() if state.aliases.get(alias) != name},
    )


# --- Telling it


def teach(server: ModelServer, want: Wanted) -> bool:
    """Make the server hold what is wanted: load and warm first, then move the aliases. Twice does no harm.

    Returns whether it lacked anything.
    A version that it refuses keeps no other from serving; the first refusal is raised at the end.
    """
    lacking = missing(server.state(), want)
    refused: dict[str, ModelServerRefused] = {}
    for version in lacking.versions:
        try:
            server.load(version)
        except ModelServerRefused as error:
            refused[version.name] = error
    passing(Step.DEPLOYMENT_LOADED)
    for alias, name in lacking.aliases.items():
        if name not in refused:
            server.point(alias, name)
    passing(Step.DEPLOYMENT_POINTED)
    for refusal in refused.values():
        raise refusal
    return bool(lacking.versions or lacking.aliases)


def ensure_serving(settings: Settings, session: Session, version: ModelVersion) -> None:
    """Load a version if the model server has forgotten it, with the aliases of its line that it lacks altogether.

    An alias that points somewhere is left alone: moving it is `publish`'s, which runs one at a time.
    """
    want = wanted(session, line_id=version.line_id)
    with connected(settings) as server:
        state = server.state()
        lacking = missing(state, Wanted(versions=[load_order(version), *want.versions], aliases=want.aliases))
        for order in lacking.versions:
            server.load(order)
        for alias, name in lacking.aliases.items():
            if alias not in state.aliases:
                server.point(alias, name)


def unload_versions(settings: Settings, names: Iterable[str]) -> None:
    """Unload these versions where they are loaded; one that an alias points at stays."""
    with connected(settings) as server:
        state = server.state()
        free = set(names) - set(state.aliases.values())
        for version in state.versions:
            if version.name in free:
                server.unload(version.name)
