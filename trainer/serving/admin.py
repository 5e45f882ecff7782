"""The admin face: load and unload versions, point aliases, see the state. `trainer.contract.server` has the schemas."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from trainer.contract.process import ProcessFacts, this_process
from trainer.contract.server import LoadedVersion, LoadVersion, PointAlias, RewardTexts, ServerState, TextRewards
from trainer.contract.steps import Step, passing
from trainer.serving.access import require_admin_token
from trainer.serving.errors import ModelNotFoundError, ServingError, StoppingError
from trainer.serving.loading import check_name
from trainer.serving.model_server import TheServer

router = APIRouter(prefix="/admin", dependencies=[Depends(require_admin_token)])
health = APIRouter()


# Plain `def`, hence on a thread of its own: reading a large model takes a while.
@router.post("/versions")
def load_version(wanted: LoadVersion, server: TheServer) -> LoadedVersion:
    """Load a model folder under a name; answers once it can serve. The same again changes nothing."""
    try:
        server.loader.load(wanted)
    except ServingError as error:
        server.registry.note_refusal(wanted.name, error.message)
        raise
    passing(Step.SERVING_LOADED)
    for version in server.registry.state().versions:
        if version.name == wanted.name:
            return version
    raise ModelNotFoundError(f"'{wanted.name}' was unloaded as soon as it was loaded.", parameter="name")


@router.delete("/versions/{name:path}", status_code=204)
async def unload_version(name: str, server: TheServer) -> Response:
    """Route no more requests to a version; those under way finish on it."""
    server.registry.unload(name)
    return Response(status_code=204)


@router.put("/aliases", response_model_exclude_defaults=True)
async def point_alias(wanted: PointAlias, server: TheServer) -> ServerState:
    """Let an alias stand for a version from the next request on."""
    check_name(wanted.alias, parameter="alias")
    server.registry.point(wanted.alias, wanted.version)
    passing(Step.SERVING_POINTED)
    return server.registry.state()


@router.delete("/aliases/{alias:path}", status_code=204)
async def remove_alias(alias: str, server: TheServer) -> Response:
    """Forget an alias; what it pointed at stays loaded."""
    server.registry.remove_alias(alias)
    return Response(status_code=204)


# Plain `def`, as for loading.
@router.post("/rewards")
def reward_texts(wanted: RewardTexts, server: TheServer) -> TextRewards:
    """What a reward model thinks of some texts."""
    check_name(wanted.reward_model.name, parameter="reward_model.name")
    return TextRewards(rewards=server.rewarder.rewards(wanted))


@router.get("/state", response_model_exclude_defaults=True)
async def show_state(server: TheServer) -> ServerState:
    """What is loaded and what each alias points at, as of one moment."""
    return server.registry.state()


@router.get("/process")
async def show_process() -> ProcessFacts:
    """Which process this is, since when, on which code, and how much memory it holds."""
    return this_process()


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@health.get("/readyz")
async def readyz(server: TheServer) -> dict[str, str]:
    """Requests would be worked on; 503 while the server is stopping."""
    if not server.scheduler.alive:
        raise StoppingError
    return {"status": "ready"}
