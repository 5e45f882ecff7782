"""Turning an assignment's id in a URL into the person's own assignment, with their desk held."""

import uuid
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.campaigns.access import find_enrolment
from app.comparisons.models import Assignment
from app.comparisons.service.desk import HeldAssignment, hold_assignment
from app.database import DbSession
from app.errors import Conflict, NotFound
from app.wording import gettext as _


@declares(Needs.JUDGES)
def own_assignment(assignment_id: uuid.UUID, person: CurrentPerson, session: DbSession) -> HeldAssignment:
    """An assignment that was given to this person.

    Conflict for a fellow annotator's; NotFound for whoever may not even know of it.
    """
    try:
        return hold_assignment(session, assignment_id=assignment_id, annotator_id=person.id)
    except Conflict:
        if not _judges_beside(session, assignment_id=assignment_id, user_id=person.id):
            raise NotFound(_("There is no such comparison, or it was not given to you.")) from None
        raise


def _judges_beside(session: Session, *, assignment_id: uuid.UUID, user_id: int) -> bool:
    """Whether a person judges in the campaign of an assignment that is not theirs."""
    assignment = session.get_one(Assignment, assignment_id)
    enrolment = find_enrolment(session, campaign_id=assignment.campaign_id, user_id=user_id)
    return enrolment is not None and enrolment.judges


OwnAssignment = Annotated[HeldAssignment, Depends(own_assignment)]
