"""Changes of many, for tests."""

import uuid
from typing import Any

from sqlalchemy.orm import Session

from app.accounts.models import User
from app.campaigns.models import Campaign
from app.comparisons.models import BulkChange, BulkState, BulkVerb
from tests.conftest import NOW


def make_change(session: Session, campaign: Campaign, *, by: User, **given: Any) -> BulkChange:
    """A change that is done, unless `given` says otherwise."""
    values: dict[str, Any] = {
        **{"verb": BulkVerb.PRIORITISE, "state": BulkState.DONE, "details": {"priority": 1.0}, "filter": {}},
        **{"judgments_up_to": 0, "before_id": 1, "found": 1, "done": 1, **given},
    }
    change = BulkChange(campaign_id=campaign.id, key=uuid.uuid4(), created_by_id=by.id, created_at=NOW, **values)
    session.add(change)
    session.flush()
    return change
