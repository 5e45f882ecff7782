"""Files that browsers send: kept in the data folder until a background job has read them."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.errors import Invalid, Unavailable
from app.generation.models import Import, ImportKind
from app.generation.service.imports import begin_import
from app.queue import enqueue
from app.settings import Settings
from app.wording import gettext as _

PIECE = 2**20
"""Bytes copied at a time."""

UNPACKS_TO = 20
"""Times its largest size on the wire that an uploaded file may unpack to."""


def receive_prompts(
    session: Session,
    *,
    settings: Settings,
    campaign: Campaign,
    filename: str,
    content: BinaryIO,
    by_id: int | None,
    now: datetime,
) -> Import:
    """Keep an uploaded file of prompts and have the worker take it in; returns the import that waits.

    Raises Invalid for a file beyond the limit, Unavailable where the disk is full.
    """
    record = receive_upload(
        session,
        kind=ImportKind.PROMPTS,
        settings=settings,
        campaign=campaign,
        filename=filename,
        content=content,
        by_id=by_id,
        now=now,
    )
    enqueue(session, "generation:import_prompts", lock=f"import-{record.id}", import_id=record.id)
    return record


def receive_upload(
    session: Session,
    *,
    kind: ImportKind,
    settings: Settings,
    campaign: Campaign,
    filename: str,
    content: BinaryIO,
    by_id: int | None,
    now: datetime,
) -> Import:
    """Keep an uploaded file under a new import, for a job to read; nothing stays of one that is refused.

    Raises Invalid for a file beyond the limit, Unavailable where the disk is full.
    """
    name = Path(filename.replace("\\", "/")).name
    record = begin_import(session, campaign=campaign, kind=kind, filename=name, by_id=by_id, now=now)
    path = upload_path(settings, import_id=record.id)
    try:
        record.sha256 = keep_upload(content, path, most_bytes=settings.upload_megabytes * 2**20)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Unavailable(
            _("The file could not be kept: %(strerror)s. Ask an admin to look at the disk.", strerror=error.strerror)
        ) from error
    except Invalid:
        path.unlink(missing_ok=True)
        raise
    session.flush()
    return record


def upload_path(settings: Settings, *, import_id: int) -> Path:
    """Where an import's file lies; named by us alone."""
    return settings.data_dir / "uploads" / f"import-{import_id}"


def most_unpacked_bytes(settings: Settings) -> int:
    """How much an uploaded file may unpack to."""
    return UNPACKS_TO * settings.upload_megabytes * 2**20


def keep_upload(content: BinaryIO, path: Path, *, most_bytes: int) -> str:
    """Copy an upload to disk piece by piece; returns the SHA-256. Raises Invalid beyond `most_bytes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, copied = hashlib.sha256(), 0
    with path.open("wb") as file:
        while piece := content.read(PIECE):
            copied += len(piece)
            if copied > most_bytes:
                raise Invalid(
                    _(
                        "The file is larger than %(most)s MB. Pack it with gzip, split it, or import it from "
                        "the command line.",
                        most=f"{most_bytes // 2**20:,}",
                    )
                )
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
