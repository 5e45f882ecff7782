"""Lines, their versions, and which version serves: the verbs that generation, training and commands use."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from app.audit import record_deed
from app.deployments.models import Alias, Deployment, Endpoint, ModelLine, ModelVersion, VersionKind
from app.deployments.rollback import version_before
from app.errors import Conflict, NotFound
from app.live.announcing import announce
from app.queue import enqueue
from app.wording import gettext as _

# --- Lines and versions


def create_line(
    session: Session,
    *,
    slug: str,
    name: str,
    path: str,
    sha256: str,
    now: datetime,
    description: str = "",
    is_toy: bool = False,
    by_id: int | None = None,
    endpoint: Endpoint | None = None,
) -> ModelLine:
    """A new line whose base, version 0, is the model folder at `path` (absolute); it serves as `current` at once.

    `sha256` is `trainer.contract.files.weights_sha256` of the folder; both are empty for a model that is asked at an
    `endpoint`. Raises Conflict where the slug is taken.
    """
    if find_line(session, slug=slug) is not None:
        raise Conflict(_("There is a model line called %(slug)s already. Choose another short name.", slug=slug))
    line = ModelLine(slug=slug, name=name, description=description, is_toy=is_toy, created_at=now)
    session.add(line)
    session.flush()
    base = ModelVersion(
        line=line, number=0, kind=VersionKind.BASE, path=path, sha256=sha256, created_at=now, endpoint=endpoint
    )
    session.add(base)
    session.flush()
    record_deed(session, action="line.created", subject=line, subject_id=line.id, actor_id=by_id, now=now, slug=slug)
    deploy_version(session, version=base, reason=_("The base of a new line."), by_id=by_id, now=now)
    return line


def find_line(session: Session, *, slug: str) -> ModelLine | None:
    """The line of this short name, if there is one."""
    return session.scalars(select(ModelLine).where(ModelLine.slug == slug)).one_or_none()


def list_versions_of(session: Session, *, line_ids: Collection[int | None], limit: int = 500) -> list[ModelVersion]:
    """The versions of several lines that write, the newest first."""
    query = (
        select(ModelVersion)
        .options(joinedload(ModelVersion.line))
        .where(ModelVersion.line_id.in_([each for each in line_ids if each is not None]), ~ModelVersion.is_reward_model)
    )
    return list(session.scalars(query.order_by(ModelVersion.id.desc()).limit(limit)))


def list_lines(session: Session) -> list[ModelLine]:
    """Every line, in the order in which they were created."""
    return list(session.scalars(select(ModelLine).order_by(ModelLine.id)))


def lock_line(session: Session, *, line_id: int) -> ModelLine:
    """The line, held until the transaction ends: what concerns it as a whole happens one after the other."""
    query = select(ModelLine).where(ModelLine.id == line_id).with_for_update()
    line = session.scalars(query).one_or_none()
    if line is None:
        raise NotFound(_("There is no such model line."))
    return line


def register_version(
    session: Session,
    *,
    parent: ModelVersion,
    kind: VersionKind,
    path: str,
    sha256: str,
    now: datetime,
    number: int | None = None,
    note: str = "",
    is_reward_model: bool = False,
    beats_chance: bool = False,
) -> ModelVersion:
    """Enter trained weights as a version of their parent's line; it does not serve yet.

    A reward model that `beats_chance` is asked from now on. Without a number it gets the next one. Raises Conflict
    where the number is taken.
    """
    lock_line(session, line_id=parent.line_id)
    free = next_version_number(session, line_id=parent.line_id)
    if number is not None and number < free:
        raise Conflict(
            _(
                "Version %(number)s of this line is there already; the next free number is %(free)s.",
                number=number,
                free=free,
            )
        )
    version = ModelVersion(
        line=parent.line,
        number=free if number is None else number,
        kind=kind,
        parent_id=parent.id,
        path=path,
        sha256=sha256,
        is_reward_model=is_reward_model,
        beats_chance=beats_chance,
        note=note,
        created_at=now,
    )
    session.add(version)
    session.flush()
    return version


def next_version_number(session: Session, *, line_id: int) -> int:
    """The number that the line's next version gets."""
    highest = session.scalar(select(func.max(ModelVersion.number)).where(ModelVersion.line_id == line_id))
    return 0 if highest is None else highest + 1


def list_versions(session: Session, *, line_id: int) -> list[ModelVersion]:
    """The versions of a line, reward models among them, newest first."""
    query = select(ModelVersion).where(ModelVersion.line_id == line_id).order_by(ModelVersion.number.desc())
    return list(session.scalars(query))


def list_writers(session: Session, *, line_id: int) -> list[ModelVersion]:
    """The versions of a line that write completions, newest first: all but its reward models."""
    return [version for version in list_versions(session, line_id=line_id) if not version.is_reward_model]


def find_reward_model(session: Session, *, line_id: int) -> ModelVersion | None:
    """The newest reward model of a line that orders held-out pairs better than chance, if it has one."""
    query = select(ModelVersion).where(
        ModelVersion.line_id == line_id, ModelVersion.is_reward_model, ModelVersion.beats_chance
    )
    return session.scalars(query.order_by(ModelVersion.number.desc()).limit(1)).one_or_none()


def get_version(session: Session, *, version_id: int) -> ModelVersion:
    """A version by id. Raises NotFound."""
    version = session.get(ModelVersion, version_id)
    if version is None:
        raise NotFound(_("There is no such model version."))
    return version


def base_version(session: Session, *, line_id: int) -> ModelVersion:
    """Version 0 of a line, from which all others descend."""
    query = select(ModelVersion).where(ModelVersion.line_id == line_id, ModelVersion.number == 0)
    return session.scalars(query).one()


# --- What serves


def find_current_version(session: Session, *, line_id: int, alias: Alias = Alias.CURRENT) -> ModelVersion | None:
    """The version that an alias of a line points at, if it points at any."""
    query = (
        select(ModelVersion)
        .join(Deployment, Deployment.version_id == ModelVersion.id)
        .where(Deployment.line_id == line_id, Deployment.alias == alias, Deployment.until.is_(None))
    )
    return session.scalars(query).one_or_none()


def current_version(session: Session, *, line_id: int, alias: Alias = Alias.CURRENT) -> ModelVersion:
    """The version that an alias of a line points at. Raises NotFound where it points at none."""
    version = find_current_version(session, line_id=line_id, alias=alias)
    if version is None:
        raise NotFound(
            _("No version of this line is deployed as %(alias)s. Deploy one on the Models page.", alias=alias.value)
        )
    return version


def deploy_version(
    session: Session,
    *,
    version: ModelVersion,
    reason: str,
    by_id: int | None,
    now: datetime,
    alias: Alias = Alias.CURRENT,
) -> Deployment:
    """Let an alias of the version's line point at it from now on, and have the model server told.

    Where it points there already nothing changes. Comparisons of the version before are made anew after. Raises
    Conflict for a reward model, which writes nothing.
    """
    refuse_reward_model(version)
    lock_line(session, line_id=version.line_id)
    open_one = find_deployment(session, line_id=version.line_id, alias=alias)
    if open_one is not None:
        if open_one.version_id == version.id:
            return open_one
        open_one.until = now
        session.flush()
    deployment = Deployment(
        line_id=version.line_id, alias=alias, version_id=version.id, since=now, reason=reason, by_id=by_id
    )
    session.add(deployment)
    session.flush()
    before = open_one.version.name if open_one else None
    deed = {"version": version.name, "before": before, "alias": alias.value, "reason": reason}
    record_deed(
        session, action="version.deployed", subject=version, subject_id=version.id, actor_id=by_id, now=now, **deed
    )
    announce(session, "line", version.line_id)
    enqueue(session, "deployments:publish", lock="model-server", line_id=version.line_id)
    enqueue(session, "comparisons:turn_over", line_id=version.line_id)
    return deployment


def refuse_reward_model(version: ModelVersion) -> None:
    """Raise Conflict for a version that writes nothing."""
    if version.is_reward_model:
        raise Conflict(
            _(
                "%(name)s is a reward model: it gives completions rewards and writes none, so it cannot serve. Choose "
                "another version.",
                name=version.name,
            )
        )


def find_deployment(session: Session, *, line_id: int, alias: Alias = Alias.CURRENT) -> Deployment | None:
    """The deployment in force under an alias, if any."""
    query = select(Deployment).where(
        Deployment.line_id == line_id, Deployment.alias == alias, Deployment.until.is_(None)
    )
    return session.scalars(query).one_or_none()


def roll_back(
    session: Session,
    *,
    line_id: int,
    by_id: int | None,
    now: datetime,
    alias: Alias = Alias.CURRENT,
    reason: str = "",
) -> Deployment:
    """Deploy the version that served before the present one. Raises Conflict where there is none."""
    line = lock_line(session, line_id=line_id)
    before = previous_version(session, line_id=line_id, alias=alias)
    if before is None:
        raise Conflict(
            _("%(name)s has served no other version before, so there is nothing to go back to.", name=line.name)
        )
    leaving = current_version(session, line_id=line_id, alias=alias)
    why = reason.strip() or _("Rolled back from %(name)s.", name=leaving.name)
    return deploy_version(session, version=before, alias=alias, reason=why, by_id=by_id, now=now)


def previous_version(session: Session, *, line_id: int, alias: Alias = Alias.CURRENT) -> ModelVersion | None:
    """The version that `roll_back` would deploy, if any."""
    query = (
        select(Deployment.version_id)
        .where(Deployment.line_id == line_id, Deployment.alias == alias)
        .order_by(Deployment.id)
    )
    before = version_before(session.scalars(query))
    return None if before is None else session.get_one(ModelVersion, before)


def deployment_history(session: Session, *, line_id: int, limit: int = 100) -> Sequence[Deployment]:
    """What served, newest first, with version and person loaded."""
    query = (
        select(Deployment)
        .where(Deployment.line_id == line_id)
        .order_by(Deployment.id.desc())
        .limit(limit)
        .options(joinedload(Deployment.version), joinedload(Deployment.by))
    )
    return session.scalars(query).all()
