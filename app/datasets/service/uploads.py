"""Files of comparisons that browsers send: kept until the worker has taken them in."""

from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.errors import Invalid, Unavailable
from app.generation.models import Import, ImportKind
from app.generation.service.imports import begin_import
from app.generation.service.uploads import keep_upload, upload_path
from app.queue import enqueue
from app.settings import Settings


def receive_comparisons(
    session: Session,
    *,
    settings: Settings,
    campaign: Campaign,
    filename: str,
    content: BinaryIO,
    by_id: int | None,
    now: datetime,
) -> Import:
    """Keep an uploaded file of comparisons and have the worker take it in; returns the import that waits.

    Raises Invalid for a file beyond the limit, Unavailable where the disk is full.
    """
    name = Path(filename.replace("\\", "/")).name
    record = begin_import(session, campaign=campaign, kind=ImportKind.COMPARISONS, filename=name, by_id=by_id, now=now)
    path = upload_path(settings, import_id=record.id)
    try:
        record.sha256 = keep_upload(content, path, most_bytes=settings.upload_megabytes * 2**20)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Unavailable(f"The file could not be kept: {error.strerror}. Ask an admin to look at the disk.") from error
    except Invalid:
        path.unlink(missing_ok=True)
        raise
    session.flush()
    # One import into a campaign at a time: two at once could each miss what the other is adding.
    lock = f"comparisons-of-{campaign.id}"
    enqueue(session, "datasets:import_comparisons", lock=lock, import_id=record.id)
    return record
