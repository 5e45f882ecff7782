"""What the form of a campaign would have annotators see, before it is saved."""

import uuid
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.accounts.access import CampaignCreator
from app.campaigns.asking import NOTHING, Asked
from app.campaigns.schemas import QuestionForm
from app.comparisons.service.desk import Question
from app.comparisons.service.presenting import BlindComparison, Desk, ShownMessage, Standing
from app.comparisons.spans import Piece, Span, divided
from app.forms import Submission, submitted
from app.templating import render
from app.wording import gettext as _

router = APIRouter()


@router.post("/campaigns/preview", name="comparisons:preview")
def preview(
    request: Request, person: CampaignCreator, form: Annotated[Submission[QuestionForm], submitted(QuestionForm)]
) -> Response:
    """The judging panel with an example, or what is wrong with the form."""
    desk = None if form.value is None else _example(form.value)
    asked = NOTHING if form.value is None else form.value.asked()
    return render(
        request,
        "comparisons/_preview.html",
        desk=desk,
        pieces=_example_of_marks(asked),
        categories={category.name: place for place, category in enumerate(asked.spans, start=1)},
        errors=form.errors,
    )


def _example_of_marks(asked: Asked) -> list[Piece]:
    """A text in which the first categories are marked, one after the other; nothing where none are asked."""
    words = [_("It reflects the sea"), _("as everybody knows"), _("and the sea is blue")]
    text, spans = "", []
    for place, phrase in enumerate(words):
        if place < len(asked.spans):
            spans.append(Span(len(text), len(text) + len(phrase), asked.spans[place].name))
        text += phrase + (", " if place + 1 < len(words) else ".")
    return divided(text, spans) if spans else []


def _example(form: QuestionForm) -> Desk:
    question = Question(0, 1, form.ties_allowed, form.all_bad_allowed, form.asked())
    texts = [
        _("Light scatters in the air, and blue scatters most."),
        _("It reflects the sea."),
        _("Because of scattering: short waves are spread in all directions, long ones pass through."),
    ]
    count = form.completions_per_comparison
    comparison = BlindComparison(
        assignment_id=uuid.UUID(int=0),
        messages=[ShownMessage("user", _("Why is the sky blue?"))],
        completions=[texts[place % len(texts)] for place in range(count)],
        question=question,
    )
    return Desk(
        campaign_id=0,
        campaign_name=_("Example"),
        standing=Standing.COMPARISON,
        comparison=comparison,
        reason="",
        revision_id=0,
        is_guided=bool(form.guidelines.strip() or form.question().examples),
        judged_today=0,
        day=date(2000, 1, 1),
        left=1,
        undoable=None,
    )
