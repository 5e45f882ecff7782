"""Background entry points of datasets: freeze a snapshot, delete what was withdrawn, take in comparisons."""

from procrastinate import Blueprint, JobContext

from app.background import DATABASE_AWAY, outlasting, workplace
from app.datasets import row_pages
from app.datasets.looking import exports_folder, snapshot_folder
from app.datasets.models import Snapshot
from app.datasets.service.comparison_import import load_comparisons
from app.datasets.service.forgetting import finish_forgetting
from app.datasets.service.freezing import freeze_snapshot as freeze
from app.datasets.service.snapshots import fail_snapshot
from app.datasets.service.withdrawing import delete_withdrawn_files, list_withdrawn
from app.errors import DomainError
from app.generation.service.imports import fail_import
from app.generation.service.uploads import most_unpacked_bytes, upload_path
from app.wording import gettext as _
from app.wording import mark as N_

blueprint = Blueprint()

BROKE_OFF = N_("Something unexpected broke this off; the worker's log says what.")


@blueprint.task(name="freeze_snapshot", pass_context=True, retry=outlasting())
def freeze_snapshot(context: JobContext, *, snapshot_id: int) -> None:
    """Write a requested snapshot; why it could not be written is on its page."""
    place = workplace(context)
    try:
        freeze(place.session_factory, place.settings, snapshot_id=snapshot_id, now=place.clock())
    except (*DATABASE_AWAY, DomainError, OSError):
        raise
    except Exception:
        with place.session_factory.begin() as session:
            fail_snapshot(session, snapshot_id=snapshot_id, reason=_(BROKE_OFF))
        raise


@blueprint.task(name="lay_out_rows", pass_context=True, retry=outlasting())
def lay_out_rows(context: JobContext, *, snapshot_id: int) -> None:
    """Lay the rows of a snapshot out for pages, which say so where it fails.

    A snapshot whose files are gone meanwhile is left alone.
    """
    place = workplace(context)
    with place.session_factory.begin() as session:
        folder = snapshot_folder(session.get_one(Snapshot, snapshot_id))
    if folder is None:
        return
    exports = exports_folder(place.settings, snapshot_id)
    try:
        row_pages.lay_out_rows(folder, exports)
    except Exception:
        row_pages.note_failure(exports)
        raise


@blueprint.task(name="carry_out_withdrawals", pass_context=True, retry=outlasting())
def carry_out_withdrawals(context: JobContext) -> None:
    """Erase what forgotten people left meanwhile, then delete the files of every withdrawn snapshot."""
    place = workplace(context)
    with place.session_factory.begin() as session:
        finish_forgetting(session, now=place.clock())
    with place.session_factory.begin() as session:
        withdrawn = list_withdrawn(session)
    for snapshot in withdrawn:
        delete_withdrawn_files(place.settings, snapshot)


@blueprint.task(name="import_comparisons", pass_context=True, retry=outlasting())
def import_comparisons(context: JobContext, *, import_id: int) -> None:
    """Read an uploaded file of comparisons, then let go of the file."""
    place = workplace(context)
    path = upload_path(place.settings, import_id=import_id)
    most_bytes = most_unpacked_bytes(place.settings)
    try:
        load_comparisons(
            place.session_factory, import_id=import_id, path=path, clock=place.clock, most_bytes=most_bytes
        )
    except DATABASE_AWAY:
        raise
    except Exception:
        with place.session_factory.begin() as session:
            fail_import(session, import_id=import_id, message=_(BROKE_OFF), now=place.clock())
        raise
    path.unlink(missing_ok=True)
