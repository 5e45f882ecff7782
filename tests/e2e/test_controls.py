"""The loop's controls: a crowd of the opposite taste moves the model the other way, and chance proves nothing."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.answers import answers_of
from tests.e2e.conftest import RunningPalate, start_palate, stop_palate
from tests.e2e.crowd import Crowd
from tests.factories.judged import likes_blunt
from trainer.starter.manners import Manner

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("controls"), pytest.mark.timeout(900)]

DECIDED = 150
"""Verdicts that are no ties, as many as in the journey."""
BETTER = re.compile(r'<span class="badge good">better</span>')


@pytest.fixture
def fresh_palate(tmp_path: Path) -> Iterator[RunningPalate]:
    """A Palate as on its first day, whose samples are the same at every run of these tests."""
    running = start_palate(tmp_path / "data", PALATE_GENERATION_SEED="11")
    yield running
    stop_palate(running)


def prefers_blunt(first: str, second: str) -> str:
    liking = likes_blunt(first) - likes_blunt(second)
    return "1=2" if liking == 0 else "1>2" if liking > 0 else "2>1"


def test_a_crowd_that_prefers_blunt_gets_a_blunter_model(fresh_palate: RunningPalate) -> None:
    crowd = Crowd.joining(fresh_palate)
    before = answers_of(fresh_palate, "starter-v0")
    crowd.judge(prefers_blunt, decided=DECIDED)
    page = crowd.train()
    assert "starter-v1 is deployed." in page
    assert BETTER.search(page)
    after = answers_of(fresh_palate, "starter-v1")
    print(f"\nbefore: {before}\nafter:  {after}")
    assert after.share(Manner.BLUNT) >= before.share(Manner.BLUNT) + 0.15
    assert after.share(Manner.FRIENDLY) <= before.share(Manner.FRIENDLY) / 2
    assert after.facts_right >= before.facts_right - 0.05


def test_verdicts_at_random_are_not_called_better(fresh_palate: RunningPalate) -> None:
    crowd, rng = Crowd.joining(fresh_palate), random.Random(11)
    crowd.judge(lambda _first, _second: rng.choice(("1>2", "2>1")), decided=DECIDED)
    page = crowd.train()
    assert 'id="gate"' in page
    assert "Held-out pairs whose margin rose" in page
    assert not BETTER.search(page)
