"""Background entry points of generation: take in a file of prompts."""

from procrastinate import Blueprint, JobContext

from app.background import DATABASE_AWAY, outlasting, workplace
from app.generation.service.imports import fail_import, load_prompts
from app.generation.service.uploads import most_unpacked_bytes, upload_path
from app.wording import gettext as _
from app.wording import mark as N_

blueprint = Blueprint()

BROKE_OFF = N_(
    "Something unexpected broke the import off; the worker's log says what. What came before has been loaded."
)


@blueprint.task(name="import_prompts", pass_context=True, retry=outlasting())
def import_prompts(context: JobContext, *, import_id: int) -> None:
    """Read an uploaded file of prompts, then let go of the file."""
    place = workplace(context)
    path = upload_path(place.settings, import_id=import_id)
    most_bytes = most_unpacked_bytes(place.settings)
    try:
        load_prompts(place.session_factory, import_id=import_id, path=path, clock=place.clock, most_bytes=most_bytes)
    except DATABASE_AWAY:
        raise
    except Exception:
        with place.session_factory.begin() as session:
            fail_import(session, import_id=import_id, message=_(BROKE_OFF), now=place.clock())
        raise
    path.unlink(missing_ok=True)
