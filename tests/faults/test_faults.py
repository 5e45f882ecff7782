"""The short form: one of each process killed at random, and a plug pulled at a step of each kind."""

import random
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.faults.installation import PROCESSES, Installation, installation
from tests.faults.kills import pull_plugs
from tests.faults.people import People
from tests.faults.soundness import amiss, leases_left
from trainer.contract.steps import Step

pytestmark = [pytest.mark.slow, pytest.mark.alone]

STEPS = [
    Step.JUDGMENT_RECORDING,
    Step.REQUEST_COMMITTED,
    Step.GENERATION_STORING,
    Step.SNAPSHOT_MANIFEST_WRITTEN,
    Step.TRAINING_CHECKPOINT_WRITING,
    Step.REGISTRATION_DEPLOYING,
    Step.DEPLOYMENT_LOADED,
    Step.SERVING_LOADED,
]


@pytest.mark.timeout(900)
def test_pull_any_plug_and_palate_is_whole_and_at_work_again_within_half_a_minute(tmp_path: Path) -> None:
    with installation(tmp_path, annotators=4) as place:
        with People(place, seed=11) as people:
            tally = pull_plugs(people, steps=STEPS, random_kills=len(PROCESSES), rng=random.Random(11))
        assert [str(kill) for kill in tally.missed] == []
        assert tally.unreached == []
        assert len(tally.kills) == len(STEPS) + len(PROCESSES)
        assert amiss(place, people.ledger) + leases_left(place) == []
        assert people.ledger.refused == []
        assert len(people.ledger.acknowledged) > 50


def test_a_lost_judgment_and_a_broken_snapshot_are_found(tmp_path: Path) -> None:
    """What the harness looks for it finds."""
    with installation(tmp_path, annotators=1) as place:
        with People(place, seed=1) as people:
            while len(people.ledger.so_far()) < 5 or not snapshots(place):
                time.sleep(0.2)
        assert amiss(place, people.ledger) == []
        with place.sessions.begin() as session:
            session.execute(text("UPDATE slots SET judgment_id = NULL"))
            session.execute(text("DELETE FROM judgments WHERE assignment_id IS NOT NULL"))
            (path,) = session.scalars(text("SELECT path FROM snapshots WHERE state = 'ready' ORDER BY id LIMIT 1"))
        with (Path(path) / "rankings.train.parquet").open("ab") as file:
            file.write(b"torn")
        found = amiss(place, people.ledger)
        assert any(said.startswith("acknowledged and lost") for said in found)
        assert any("rankings.train.parquet is not as its manifest says" in said for said in found)


def snapshots(place: Installation) -> int:
    """How many snapshots are ready."""
    with place.sessions() as session:
        return len(session.scalars(text("SELECT id FROM snapshots WHERE state = 'ready'")).all())
