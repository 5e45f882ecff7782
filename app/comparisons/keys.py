"""The page on which people choose their keys of the judging page; these stay in their browser, nothing is kept here."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.accounts.access import CurrentPerson
from app.templating import render
from app.wording import mark as N_

router = APIRouter()


@dataclass(frozen=True)
class KeyedAction:
    """Something on the judging page that has a key of its own. `name` is its name in `static/js/keys.js`."""

    name: str
    label: str


ACTIONS = [
    KeyedAction("first", N_("The first is better")),
    KeyedAction("second", N_("The second is better")),
    KeyedAction("equal", N_("They are equally good")),
    KeyedAction("bad", N_("None of them is any good")),
    KeyedAction("skip", N_("Skip")),
    KeyedAction("undo", N_("Undo")),
    KeyedAction("better", N_("Write a better one for the comparison judged last")),
    KeyedAction("difference", N_("Mark the words in which the two differ")),
    KeyedAction("answers", N_("To the questions beside the verdict")),
    KeyedAction("mark", N_("Mark errors in the texts")),
    KeyedAction("fold", N_("Show long ones whole, or fold them")),
    KeyedAction("guidelines", N_("Guidelines")),
    KeyedAction("keys", N_("All keys")),
]


@router.get("/keys", name="comparisons:keys")
def show(request: Request, person: CurrentPerson) -> Response:
    """Each action with its key; a script fills in those chosen on this device."""
    return render(request, "comparisons/keys.html", actions=ACTIONS)
