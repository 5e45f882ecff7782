"""Turning ids in URLs into one's own assignment, with one's desk held; and into comparisons and judgments that this
person may see, or set aside.
"""

import uuid
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, Needs, declares
from app.accounts.service.sign_ins import Person
from app.campaigns.access import LEVELS, effective_access, find_enrolment
from app.campaigns.models import Access
from app.comparisons.models import Assignment, Comparison, Judgment
from app.comparisons.service.desk import HeldAssignment, hold_assignment
from app.database import DbSession
from app.errors import Conflict, Forbidden, NotFound
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


@declares(Needs.READS)
def readable_comparison(comparison_id: int, person: CurrentPerson, session: DbSession) -> Comparison:
    """A comparison of a campaign whose data this person may see."""
    comparison = session.get(Comparison, comparison_id)
    if comparison is None or not _has(session, person, comparison.campaign_id, least=Access.RESEARCH):
        raise NotFound(_("There is no such comparison, or it belongs to a campaign whose data you may not see."))
    return comparison


@declares(Needs.MANAGES)
def managed_judgment(judgment_id: int, person: CurrentPerson, session: DbSession) -> Judgment:
    """A judgment in a campaign that this person manages."""
    judgment = session.get(Judgment, judgment_id)
    campaign_id = None if judgment is None else session.get_one(Comparison, judgment.comparison_id).campaign_id
    if judgment is None or campaign_id is None or not _has(session, person, campaign_id, least=Access.RESEARCH):
        raise NotFound(_("There is no such judgment, or it belongs to a campaign whose data you may not see."))
    if not _has(session, person, campaign_id, least=Access.MANAGE):
        raise Forbidden(_("Only managers of the campaign may set judgments aside. Ask one of them."))
    return judgment


def _has(session: Session, person: Person, campaign_id: int, *, least: Access) -> bool:
    return LEVELS[effective_access(session, campaign_id=campaign_id, person=person)] >= LEVELS[least]


ReadableComparison = Annotated[Comparison, Depends(readable_comparison)]
ManagedJudgment = Annotated[Judgment, Depends(managed_judgment)]
