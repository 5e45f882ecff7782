"""Model lines and versions for tests. The folders need not exist unless a test serves them."""

from itertools import count
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.deployments.models import Alias, Deployment, Endpoint, ModelLine, ModelVersion, VersionKind
from tests.conftest import NOW

_numbers = count(1)


def make_line(session: Session, *, slug: str = "", deployed: bool = True, path: str = "nowhere") -> ModelLine:
    """A line with its base, deployed as `current` unless told otherwise."""
    number = next(_numbers)
    line = ModelLine(slug=slug or f"line{number}", name=f"Line {number}", created_at=NOW)
    session.add(line)
    session.flush()
    base = make_version(session, line, path=path)
    if deployed:
        deploy(session, base)
    return line


def make_version(session: Session, line: ModelLine, *, path: str = "nowhere", sha256: str = "") -> ModelVersion:
    """The next version of a line: its base first, then children of the one before."""
    last = session.scalars(
        select(ModelVersion).where(ModelVersion.line_id == line.id).order_by(ModelVersion.number.desc()).limit(1)
    ).one_or_none()
    version = ModelVersion(
        line_id=line.id,
        number=0 if last is None else last.number + 1,
        kind=VersionKind.BASE if last is None else VersionKind.FULL,
        parent_id=None if last is None else last.id,
        path=path,
        sha256=sha256 or f"{next(_numbers):064x}",
        created_at=NOW,
    )
    session.add(version)
    session.flush()
    session.refresh(version)
    return version


def make_endpoint(session: Session, *, slug: str = "", **given: Any) -> Endpoint:
    """A line whose model lies on another server, deployed; nobody answers there unless told otherwise."""
    line = make_line(session, slug=slug)
    version = session.scalars(select(ModelVersion).where(ModelVersion.line_id == line.id)).one()
    version.path, version.sha256 = "", ""
    values = {"base_url": "https://127.0.0.1:9/v1", "model": "theirs", **given}
    version.endpoint = Endpoint(**values)
    session.flush()
    return version.endpoint


def deploy(session: Session, version: ModelVersion, alias: Alias = Alias.CURRENT) -> Deployment:
    """Point an alias at a version, closing the deployment before."""
    open_one = select(Deployment).where(
        Deployment.line_id == version.line_id, Deployment.alias == alias, Deployment.until.is_(None)
    )
    for earlier in session.scalars(open_one):
        earlier.until = session.scalar(select(func.now()))
    session.flush()
    deployment = Deployment(line_id=version.line_id, alias=alias, version_id=version.id, since=NOW, reason="test")
    session.add(deployment)
    session.flush()
    return deployment
