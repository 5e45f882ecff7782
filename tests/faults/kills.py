"""Pulling plugs, one after the other, and writing down how long each took to mend and whether all was sound."""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.faults import RECOVERY_SECONDS
from tests.faults.installation import PROCESSES
from tests.faults.people import People
from tests.faults.recovery import seconds_to_recover
from tests.faults.soundness import amiss
from trainer.contract.steps import Step

STEP_PATIENCE_SECONDS = 300.0
"""How long to wait for somebody to come by an armed step before it is given up."""
OWNERS = {
    "judgment": "web", "request": "web", "generation": "worker", "snapshot": "worker", "run": "worker",
    "training": "trainer", "registration": "worker", "deployment": "worker", "serving": "model server",
}  # fmt: skip
"""Whose end each step is, by the step's first word."""


@dataclass(frozen=True)
class Kill:
    """A plug pulled: at a step, or at random (`step` is None). `amiss` is what was wrong afterwards and not before."""

    process: str
    step: Step | None
    recovery_seconds: float
    amiss: list[str]

    @property
    def survived(self) -> bool:
        """Whether Palate was whole and at work again in time."""
        return not self.amiss and self.recovery_seconds <= RECOVERY_SECONDS

    def __str__(self) -> str:
        where = self.step or "at random"
        verdict = "survived" if self.survived else f"NOT SURVIVED {'; '.join(self.amiss)}"
        return f"{self.process:13} {where:30} {self.recovery_seconds:6.1f} s  {verdict}"


@dataclass
class Tally:
    """All kills of one session."""

    kills: list[Kill] = field(default_factory=list)
    unreached: list[Step | str] = field(default_factory=list)
    """Steps that nobody came by, and processes of which there was none, in time: no plug was pulled there."""

    @property
    def never_pulled(self) -> list[Step | str]:
        """Steps and processes that were unreached each time."""
        pulled = {kill.step or kill.process for kill in self.kills}
        return sorted({each for each in self.unreached if each not in pulled})

    @property
    def missed(self) -> list[Kill]:
        """Those that Palate did not survive."""
        return [kill for kill in self.kills if not kill.survived]

    def rows(self) -> Iterator[tuple[str, int, int, float, float]]:
        """Per process: kills, survived, median and longest recovery in seconds."""
        by_process: dict[str, list[Kill]] = defaultdict(list)
        for kill in self.kills:
            by_process[kill.process].append(kill)
        for process, kills in sorted(by_process.items()):
            seconds = [kill.recovery_seconds for kill in kills]
            survived = sum(kill.survived for kill in kills)
            yield process, len(kills), survived, statistics.median(seconds), max(seconds)


def pull_plugs(
    people: People,
    *,
    steps: list[Step],
    random_kills: int,
    rng: random.Random,
    processes: tuple[str, ...] = PROCESSES,
    on_kill: Callable[[Kill], None] = lambda _kill: None,
) -> Tally:
    """Kill at each of `steps` and `random_kills` times at random, in one mixed order."""
    tally = Tally()
    known: set[str] = set()
    plan: list[Step | str] = [*steps, *(processes[number % len(processes)] for number in range(random_kills))]
    rng.shuffle(plan)
    for each in plan:
        kill = _at_step(people, each) if isinstance(each, Step) else _at_random(people, each, rng)
        if kill is None:
            tally.unreached.append(each)
            continue
        found = set(kill.amiss)
        kill = replace(kill, amiss=sorted(found - known))
        known |= found
        tally.kills.append(kill)
        on_kill(kill)
    return tally


def _at_step(people: People, step: Step) -> Kill | None:
    """Kill the process that comes by the step next; `None` where none came in time."""
    place = people.place
    place.arm(step)
    give_up_at = time.monotonic() + STEP_PATIENCE_SECONDS
    while not place.has_fired(step):
        if time.monotonic() > give_up_at:
            place.disarm(step)
            return None
        time.sleep(0.05)
    return _afterwards(people, OWNERS[step.partition(".")[0]], step)


def _at_random(people: People, process: str, rng: random.Random) -> Kill | None:
    """Kill a process after a random while; a trainer is waited for, and `None` where none came in time."""
    time.sleep(rng.uniform(0.2, 3.0))
    give_up_at = time.monotonic() + STEP_PATIENCE_SECONDS
    while not people.place.kill(process):
        if time.monotonic() > give_up_at:
            return None
        time.sleep(0.1)
    return _afterwards(people, process, None)


def _afterwards(people: People, process: str, step: Step | None) -> Kill:
    try:
        seconds = seconds_to_recover(people.place, people.ledger)
    except TimeoutError as error:
        return Kill(process, step, float("inf"), [str(error)])
    return Kill(process, step, seconds, amiss(people.place, people.ledger) + people.troubles)
