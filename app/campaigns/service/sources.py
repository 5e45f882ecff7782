"""Which models may write a campaign's completions: a line's alias, followed, or one version, pinned."""

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.deployments.models import Alias, Deployment, ModelLine, ModelVersion

BEYOND_IDS = 2**31
"""No id of a line or version reaches this."""

IMPORTED_ONLY = "none"
"""The key of having no model at all: completions are imported."""


@dataclass(frozen=True)
class ModelSource:
    """One choice of whose completions are compared. `serves` names the version that writes now, if any does."""

    line_id: int
    line_name: str
    is_toy: bool
    alias: Alias | None
    version_id: int | None
    serves: str | None
    is_elsewhere: bool = False
    """Whether another server's model writes, and what is judged of it trains this line."""

    @property
    def key(self) -> str:
        """The choice as a form's value, e.g. `1:current` or `1:v4`."""
        return source_key(line_id=self.line_id, alias=self.alias, version_id=self.version_id)


def source_key(*, line_id: int | None, alias: Alias | None, version_id: int | None) -> str:
    """How a form writes a choice of model."""
    if line_id is None or (alias is None and version_id is None):
        return IMPORTED_ONLY if line_id is None else f"{line_id}:none"
    return f"{line_id}:{alias.value}" if alias is not None else f"{line_id}:v{version_id}"


def read_source_key(key: str) -> tuple[int | None, Alias | None, int | None]:
    """Line, alias and pinned version of a choice; raises ValueError for what `source_key` does not write."""
    if key == IMPORTED_ONLY:
        return None, None, None
    line, _, rest = key.partition(":")
    if rest == "none":
        return _id(line), None, None
    if rest.startswith("v"):
        return _id(line), None, _id(rest[1:])
    return _id(line), Alias(rest), None


def _id(text: str) -> int:
    number = int(text)
    if not 0 < number < BEYOND_IDS:
        raise ValueError(f"{text} cannot be an id")
    return number


def list_model_sources(session: Session) -> list[ModelSource]:
    """Every choice: per line its deployed aliases (`current` even before its first deployment), then its versions.

    A line that can be trained is offered the models of other servers as well: they write, and it learns.
    """
    serving = _serving(session)
    order = (ModelVersion.line_id, ModelVersion.number.desc())
    versions = session.scalars(select(ModelVersion).where(~ModelVersion.is_reward_model).order_by(*order)).all()
    elsewhere = [version for version in versions if version.is_elsewhere]
    sources: list[ModelSource] = []
    for line in session.scalars(select(ModelLine).order_by(ModelLine.name, ModelLine.id)):
        for alias in Alias:
            version = serving.get((line.id, alias))
            if version is not None or alias is Alias.CURRENT:
                sources.append(_source(line, alias=alias, version=None, serves=version))
        sources += [
            _source(line, alias=None, version=each, serves=each) for each in versions if each.line_id == line.id
        ]
        if not any(each.line_id == line.id for each in elsewhere):
            teachers = [_source(line, alias=None, version=each, serves=each) for each in elsewhere]
            sources += [replace(teacher, is_elsewhere=True) for teacher in teachers]
    return sources


def find_writer(session: Session, campaign: Campaign) -> ModelVersion | None:
    """The version whose completions this campaign draws at present, or None."""
    if campaign.pinned_version_id is not None:
        return session.get_one(ModelVersion, campaign.pinned_version_id)
    if campaign.line_id is None or campaign.alias is None:
        return None
    return session.scalars(
        select(ModelVersion)
        .join(Deployment, Deployment.version_id == ModelVersion.id)
        .where(Deployment.line_id == campaign.line_id, Deployment.alias == campaign.alias, Deployment.until.is_(None))
    ).one_or_none()


def _serving(session: Session) -> dict[tuple[int, Alias], ModelVersion]:
    rows = session.execute(
        select(Deployment.line_id, Deployment.alias, ModelVersion)
        .join(ModelVersion, ModelVersion.id == Deployment.version_id)
        .where(Deployment.until.is_(None))
    )
    return {(line_id, alias): version for line_id, alias, version in rows}


def _source(
    line: ModelLine, *, alias: Alias | None, version: ModelVersion | None, serves: ModelVersion | None
) -> ModelSource:
    return ModelSource(
        line_id=line.id,
        line_name=line.name,
        is_toy=line.is_toy,
        alias=alias,
        version_id=version.id if version is not None else None,
        serves=serves.name if serves is not None else None,
    )
