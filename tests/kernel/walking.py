"""What the walk over all routes needs: every route with what it asks, the people who try, and things to try it on.

A new route is walked by itself. A new kind of thing in an address needs a line in `PARAMETERS`; a new need, a
line in `ALLOWED`.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy.orm import Session, sessionmaker
from starlette.routing import Mount

from app.accounts.access import SAFE_METHODS, Needs
from app.accounts.models import Role, User
from app.accounts.service.links import FreshLink, create_invitation
from app.campaigns.models import Access, Campaign
from app.comparisons.models import Assignment, AssignmentState, BulkChange, Comparison, Judgment
from app.datasets.models import Snapshot
from app.deployments.models import Endpoint, ModelLine
from app.generation.models import Import, ImportKind, Prompt
from app.settings import Settings
from app.training.models import Run, RunState
from app.training.warning_signs import SIGNS
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.changes import make_change
from tests.factories.datasets import judge_generated, make_snapshot
from tests.factories.deployments import make_endpoint, make_line
from tests.factories.generation import make_import, make_prompt
from trainer.contract.run import Budget, Hyperparameters, MetricsRow


class Member(StrEnum):
    """Who tries: a role, and the part they have in the campaign that the walk is about, or only in another."""

    NOBODY = "nobody"
    ANNOTATOR = "annotator, enrolled"
    ANNOTATOR_ELSEWHERE = "annotator, not enrolled"
    RESEARCHER = "researcher, granted"
    RESEARCHER_ELSEWHERE = "researcher, not granted"
    MANAGER = "manager of the campaign"
    MANAGER_ELSEWHERE = "manager of another"
    ADMIN = "admin"
    ADMIN_ENROLLED = "admin, enrolled"


PARTS: dict[Member, tuple[Role, bool, Access, bool]] = {
    Member.ANNOTATOR: (Role.ANNOTATOR, True, Access.NONE, True),
    Member.ANNOTATOR_ELSEWHERE: (Role.ANNOTATOR, True, Access.NONE, False),
    Member.RESEARCHER: (Role.RESEARCHER, False, Access.RESEARCH, True),
    Member.RESEARCHER_ELSEWHERE: (Role.RESEARCHER, True, Access.RESEARCH, False),
    Member.MANAGER: (Role.MANAGER, False, Access.MANAGE, True),
    Member.MANAGER_ELSEWHERE: (Role.MANAGER, True, Access.MANAGE, False),
    Member.ADMIN_ENROLLED: (Role.ADMIN, True, Access.NONE, True),
}
"""Role, whether they judge, what they may see and do, and whether in the campaign itself or in the other one."""

EVERYBODY = set(Member)
ADMINS = {Member.ADMIN, Member.ADMIN_ENROLLED}
MANAGING = {Member.MANAGER, *ADMINS}
READING = {Member.RESEARCHER, *MANAGING}

ALLOWED: dict[Needs, set[Member]] = {
    Needs.NOTHING: EVERYBODY,
    Needs.SIGNED_IN: EVERYBODY - {Member.NOBODY},
    Needs.JUDGES: {Member.ANNOTATOR, Member.ADMIN_ENROLLED},
    Needs.READS: READING,
    Needs.TRAINS: READING,
    Needs.MANAGES: MANAGING,
    Needs.CREATES: {Member.MANAGER, Member.MANAGER_ELSEWHERE, *ADMINS},
    Needs.ADMIN: ADMINS,
    Needs.TOKEN: set(),
}
"""The role table: who may use a route that declares a need on the campaign, or on its line."""


@dataclass
class World:
    """A campaign with everything that hangs on it, another one, and the people."""

    campaign: Campaign
    line: ModelLine
    endpoint: Endpoint
    prompt: Prompt
    imported: Import
    imported_comparisons: Import
    judgment: Judgment
    snapshot: Snapshot
    run: Run
    change: BulkChange
    invitation: FreshLink
    people: dict[Member, User] = field(default_factory=dict)
    assignments: dict[Member, Assignment] = field(default_factory=dict)

    def assignment_of(self, member: Member) -> uuid.UUID:
        """The assignment to try: one's own where one judges here, else the annotator's."""
        return self.assignments.get(member, self.assignments[Member.ANNOTATOR]).id


PARAMETERS: dict[str, Callable[[World, Member], object]] = {
    "assignment_id": lambda world, member: world.assignment_of(member),
    "campaign_id": lambda world, _: world.campaign.id,
    "change_id": lambda world, _: world.change.id,
    "comparison_id": lambda world, _: world.judgment.comparison_id,
    "completion_id": lambda world, _: world.assignments[Member.ANNOTATOR].shown_order[0],
    "datasets:import_id": lambda world, _: world.imported_comparisons.id,
    "file": lambda *_: "judgments",
    "endpoint_id": lambda world, _: world.endpoint.version_id,
    "import_id": lambda world, _: world.imported.id,
    "judgment_id": lambda world, _: world.judgment.id,
    "line_id": lambda world, _: world.line.id,
    "link_id": lambda world, _: world.invitation.link.id,
    "prompt_id": lambda world, _: world.prompt.id,
    "run_id": lambda world, _: world.run.id,
    "snapshot_id": lambda world, _: world.snapshot.id,
    "split": lambda *_: "train",
    "token": lambda world, _: world.invitation.token,
    "user_id": lambda world, _: world.people[Member.ANNOTATOR].id,
    "version_id": lambda world, _: world.run.base_version_id,
}
"""What stands for each parameter of an address. Extend it when an address names a new kind of thing.

Where domains mean different things by one name, `datasets:import_id` goes before `import_id`.
"""


@dataclass(frozen=True)
class Step:
    """One route with one of its methods, and what it declares to need."""

    method: str
    path: str
    name: str
    needs: frozenset[Needs]
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        """As a failure names it."""
        return f"{self.method} {self.path} ({self.name})"

    @property
    def need(self) -> Needs:
        """The need that decides; being signed in is part of every other."""
        (need,) = self.needs - {Needs.SIGNED_IN} or {Needs.SIGNED_IN}
        return need

    @property
    def is_safe(self) -> bool:
        """Whether the method promises to change nothing."""
        return self.method in SAFE_METHODS

    def address(self, world: World, member: Member) -> str:
        """The path with the things of the world in it."""
        assert not self.unknown, f"{self}: say in PARAMETERS what {self.unknown} stand for"
        chosen = {name: self._stands_for(name) for name in self.parameters}
        return self.path.format(**{name: choose(world, member) for name, choose in chosen.items() if choose})

    @property
    def unknown(self) -> list[str]:
        """Its parameters that stand for nothing yet."""
        return [name for name in self.parameters if not self._stands_for(name)]

    def _stands_for(self, name: str) -> Callable[[World, Member], object] | None:
        domain = self.name.partition(":")[0]
        return PARAMETERS.get(f"{domain}:{name}", PARAMETERS.get(name))


def steps(app: FastAPI) -> list[Step]:
    """Every route of the app and of the routers included in it, once per method."""
    found = []
    for route in iter_route_contexts(app.routes):
        original = route.original_route
        if isinstance(original, Mount) and original.name == "static":
            continue
        assert isinstance(original, APIRoute), f"{route.path}: walk this kind of route too, or it stays unguarded"
        needs = frozenset(_declared(route.dependant))
        for method in sorted(route.methods or ()):
            parameters = tuple(sorted(route.param_convertors))
            found.append(Step(method, str(route.path_format), str(route.name), needs, parameters))
    return found


def _declared(dependant: Dependant) -> Iterator[Needs]:
    needs = getattr(dependant.call, "needs", None)
    if needs is not None:
        yield needs
    for part in dependant.dependencies:
        yield from _declared(part)


def build_world(session: Session, session_factory: sessionmaker[Session], settings: Settings) -> World:
    """Build the campaign, all that hangs on it, and the people; committed to the test's transaction."""
    line, campaign, other = _campaigns(session)
    people = {Member.ADMIN: make_user(session, Role.ADMIN, name=Member.ADMIN)}
    for member, (role, judges, access, here) in PARTS.items():
        people[member] = make_user(session, role, name=member)
        enrol(session, people[member], campaign if here else other, judges=judges, access=access)
    judgment = judge_generated(session, campaign, "What is two plus two?", by=people[Member.ANNOTATOR])
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    root = people[Member.ADMIN]
    invitation = create_invitation(session, role=Role.ANNOTATOR, email=None, created_by_id=root.id, now=NOW)
    world = World(
        campaign=campaign,
        line=line,
        endpoint=make_endpoint(session),
        prompt=make_prompt(session, campaign),
        imported=make_import(session, campaign),
        imported_comparisons=make_import(session, campaign, kind=ImportKind.COMPARISONS),
        judgment=judgment,
        snapshot=snapshot,
        run=_run(session, line, snapshot),
        change=make_change(session, campaign, by=root),
        invitation=invitation,
        people=people,
    )
    for member in (Member.ANNOTATOR, Member.ADMIN_ENROLLED):
        world.assignments[member] = _assignment(session, campaign, people[member])
    session.commit()
    return world


def _campaigns(session: Session) -> tuple[ModelLine, Campaign, Campaign]:
    """A line with its campaign, and a campaign on another line."""
    line = make_line(session)
    return line, make_campaign(session, line=line), make_campaign(session, line=make_line(session))


def _assignment(session: Session, campaign: Campaign, annotator: User) -> Assignment:
    """A comparison on somebody's screen."""
    author = make_user(session)
    judged = judge_generated(session, campaign, f"What does {annotator.name} see?", by=author)
    comparison = session.get_one(Comparison, judged.comparison_id)
    assignment = Assignment(
        comparison_id=comparison.id,
        campaign_id=campaign.id,
        annotator_id=annotator.id,
        state=AssignmentState.OPEN,
        shown_order=[member.completion_id for member in comparison.members],
        leased_at=NOW,
        expires_at=NOW,
    )
    session.add(assignment)
    session.flush()
    return assignment


def _run(session: Session, line: ModelLine, snapshot: Snapshot) -> Run:
    """A run of the line that failed half-way, with no files."""
    from app.deployments.models import Alias
    from app.deployments.service import current_version

    base = current_version(session, line_id=line.id, alias=Alias.CURRENT)
    given: dict[str, Any] = {"hyperparameters": Hyperparameters().model_dump(), "budget": Budget().model_dump()}
    given |= _halfway()
    run = Run(
        line_id=line.id,
        snapshot_id=snapshot.id,
        base_version_id=base.id,
        start_version_id=base.id,
        reference_version_id=base.id,
        state=RunState.FAILED,
        method="dpo",
        seed=1,
        version_number=1,
        created_at=NOW,
        **given,
    )
    session.add(run)
    session.flush()
    return run


def _halfway() -> dict[str, Any]:
    """What a run keeps of a training of which half is done: curves, samples and warnings."""
    row = {"at": NOW.isoformat(), "fraction": 0.5, "total_steps": 80}
    looks: dict[str, Any] = {name: 0.5 for name in MetricsRow.model_fields if name.startswith(("held_out_", "sample_"))}
    looks["held_out_pairs"] = 8
    rows: list[dict[str, Any]] = [{**row, **looks, "stage": "before", "step": 0}]
    rows += [{**row, "stage": "training", "step": step, "loss": 1 / step, "margin": 0.1} for step in range(1, 41)]
    rows[20] |= looks
    rows[40] |= {**looks, "tokens_per_second": 900.0, "seconds_left": 40.0, "epoch": 2.0}
    written = [{"text": "Ω", "tokens": 1, "finished": False, "malformed": True}]
    prompt = {"prompt_id": "1", "prompt": [{"role": "user", "content": "Ω;"}], "samples": written}
    figures = dict.fromkeys(("now", "before", "bound", "step", "best", "first", "last"), "7")
    warned = [
        {"name": name, "first_step": 20, "last_step": 20 + 20 * (place % 2), "figures": figures}
        for place, name in enumerate(SIGNS)
    ]
    return {
        "metrics": rows,
        "latest": rows[-1],
        "samples": [{"at": NOW.isoformat(), "step": step, "prompts": [prompt]} for step in (0, 20, 40)],
        "warnings": warned,
    }
