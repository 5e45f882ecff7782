"""Files of comparisons that browsers send: kept until the worker has taken them in."""

from datetime import datetime
from typing import BinaryIO

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.generation.models import Import, ImportKind
from app.generation.service.uploads import receive_upload
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
    record = receive_upload(
        session,
        kind=ImportKind.COMPARISONS,
        settings=settings,
        campaign=campaign,
        filename=filename,
        content=content,
        by_id=by_id,
        now=now,
    )
    # One import into a campaign at a time: two at once could each miss what the other is adding.
    lock = f"comparisons-of-{campaign.id}"
    enqueue(session, "datasets:import_comparisons", lock=lock, import_id=record.id)
    return record
