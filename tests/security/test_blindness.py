"""An annotator who looks at everything that a judging page carries, for a hundred comparisons, still cannot tell which
model wrote what: not by ids, sizes, headers, cookies, places or times.
"""

import re
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.deployments.models import ModelVersion
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.deployments import make_version

pytestmark = pytest.mark.slow
COMPARISONS = 120


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Seen:
    """One judging page as its reader has it, and whose completion stood first, which the reader does not know."""

    html: str
    headers: list[tuple[str, str]]
    seconds: float
    assignment: uuid.UUID
    first_is_old: bool


@pytest.fixture
def campaign(session: Session) -> Campaign:
    """A campaign in which an old and a new version meet, with completions of the same lengths."""
    campaign = make_campaign(session)
    assert campaign.line is not None
    new = make_version(session, campaign.line)
    for number in range(COMPARISONS):
        comparison = make_comparison(session, campaign, texts=(f"Text A {number:03}", f"Text B {number:03}"))
        old, newer = (member.completion for member in comparison.members)
        newer.model_version_id, newer.latency_ms, old.latency_ms = new.id, 9_000, 10
    session.commit()
    return campaign


@pytest.fixture
def seen(session: Session, signed_in: SignedIn, campaign: Campaign) -> list[Seen]:
    """Every page that one person is shown while they judge it all."""
    ann = make_user(session)
    enrol(session, ann, campaign)
    session.commit()
    browser, pages = signed_in(ann), []
    for number in range(COMPARISONS):
        pages.append(looked_at(browser, campaign))
        action = f"/assignments/{pages[-1].assignment}/judgment"
        done = browser.post(action, data={"ranking": "1>2", "key": str(uuid.uuid4())}, headers={})
        assert done.status_code == 303, (number, done.text[:300])
    return pages


def looked_at(browser: TestClient, campaign: Campaign) -> Seen:
    began = time.process_time()
    answer = browser.get(f"/campaigns/{campaign.id}/judge", headers={"Accept-Encoding": "identity"})
    seconds = time.process_time() - began
    found = re.search(r"/assignments/([0-9a-f-]{36})/judgment", answer.text)
    assert found, answer.text[:500]
    first = re.search(r"Text ([AB]) \d{3}", answer.text)
    assert first
    return Seen(answer.text, list(answer.headers.items()), seconds, uuid.UUID(found[1]), first[1] == "A")


def test_nothing_but_the_texts_tells_who_wrote_what(session: Session, campaign: Campaign, seen: list[Seen]) -> None:
    versions = session.query(ModelVersion).filter_by(line_id=campaign.line_id).all()
    assert len(versions) == 2
    for page in seen:
        said = UUID.sub("", page.html + repr(page.headers))  # drawn at random, and may hold any digits
        for version in versions:
            assert version.name not in said
            assert version.sha256 not in said
        assert not re.search(r"(?<![0-9a-f])9000(?![0-9a-f])", said), "milliseconds, and no part of a number by chance"
        assert "latency" not in said
    # One may come first in a comparison and second in the next; all else about the two kinds of page is the same.
    sizes = {
        first: Counter(masked_size(page) for page in seen if page.first_is_old is first) for first in (True, False)
    }
    assert set(sizes[True]) & set(sizes[False]), sizes
    old, new = (header_values(page for page in seen if page.first_is_old is first) for first in (True, False))
    assert old == new
    assert not {"etag", "last-modified", "server-timing", "set-cookie"} & set(old)


def header_values(pages: Iterable[Seen]) -> dict[str, set[str]]:
    """Every value that each header had, but for the length and the number of the request."""
    values: dict[str, set[str]] = {}
    for page in pages:
        for name, value in page.headers:
            values.setdefault(name, set()).add("" if name in {"content-length", "x-request-id"} else value)
    return values


def masked_size(page: Seen) -> int:
    """Bytes of the page without numbers that count up for everybody, such as "3 judged today"."""
    return len(re.sub(r"\d+", "", page.html))


def test_ids_are_drawn_by_chance_and_tell_neither_order_nor_time(seen: list[Seen]) -> None:
    ids = [page.assignment for page in seen]
    assert len(set(ids)) == COMPARISONS
    assert {each.version for each in ids} == {4}, "not of a version that holds the time"
    rising = sum(one < other for one, other in pairwise(ids))
    assert abs(rising - (COMPARISONS - 1) / 2) < 4 * (COMPARISONS / 12) ** 0.5, "four standard deviations"


def test_each_version_stands_first_as_often_as_second_and_nobody_foresees_when(seen: list[Seen]) -> None:
    first = [page.first_is_old for page in seen]
    assert abs(sum(first) - COMPARISONS / 2) <= 2, "balanced in blocks of four"
    guesses = {
        "the same again": sum(one == other for one, other in pairwise(first)),
        "the other one": sum(one != other for one, other in pairwise(first)),
        "in turn": sum(each == (number % 2 == 0) for number, each in enumerate(first)),
    }
    for guess, right in guesses.items():
        assert right < 0.75 * COMPARISONS, f"{guess}: right {right} times of {COMPARISONS}"


def test_a_page_takes_as_long_whoever_wrote_what_comes_first(seen: list[Seen]) -> None:
    old = sorted(page.seconds for page in seen if page.first_is_old)
    new = sorted(page.seconds for page in seen if not page.first_is_old)
    ratio = old[len(old) // 2] / new[len(new) // 2]
    assert 0.75 < ratio < 1.33, f"medians differ by {ratio:.2f}"
