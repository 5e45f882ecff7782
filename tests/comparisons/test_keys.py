"""The page of one's own keys; what it does is a script's, and proved by a journey in a browser."""

import re

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.comparisons.keys import ACTIONS
from app.settings import ROOT
from tests.conftest import SignedIn
from tests.factories.accounts import make_user


def test_the_page_names_every_action_that_the_script_knows(session: Session, signed_in: SignedIn) -> None:
    person = make_user(session)
    session.commit()
    script = (ROOT / "static" / "js" / "keys.js").read_text()
    assert re.findall(r"^  (\w+): \{ key:", script, re.M) == [action.name for action in ACTIONS]
    page = signed_in(person).get("/keys").text
    assert re.findall(r'data-action="(\w+)"', page) == [action.name for action in ACTIONS]
    assert "Keys need JavaScript" in page


def test_nobody_has_keys_without_signing_in(visitor: TestClient) -> None:
    assert visitor.get("/keys").status_code == 303
