"""The rows of a snapshot, page by page, as the worker has laid them out."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.database import DbSession
from app.datasets.access import ReadableSnapshot
from app.datasets.looking import exports_folder, snapshot_folder
from app.datasets.models import Snapshot
from app.datasets.row_pages import RowFilter, RowPage, RowsOf, forget_failure, has_failed, is_laid_out, read_page
from app.datasets.service.snapshots import request_rows
from app.datasets.views.snapshots import TheSettings, why_no_files
from app.errors import NotFound
from app.templating import is_htmx, render

router = APIRouter()


@router.get("/snapshots/{snapshot_id}/rows/{file}", name="datasets:rows")
def rows(
    *,
    request: Request,
    snapshot: ReadableSnapshot,
    file: RowsOf,
    session: DbSession,
    settings: TheSettings,
    page: int = 1,
    split: str = "",
    verdict: str = "",
    only: str = "",
) -> Response:
    """One page of the rows of one file; until they are laid out, the page waits for the worker.

    Where that failed, loading the page anew tries again.
    """
    if snapshot_folder(snapshot) is None:
        raise NotFound(why_no_files(snapshot))
    exports = exports_folder(settings, snapshot.id)
    wanted = RowFilter(split=split, verdict=verdict, only=only)
    found: RowPage | None = None
    failed = is_htmx(request) and has_failed(exports)
    if is_laid_out(exports):
        found = read_page(exports, file, wanted=wanted, page=page)
    elif not failed:
        forget_failure(exports)
        request_rows(session, snapshot=snapshot)
    context: dict[str, Any] = {
        **{
            "snapshot": snapshot,
            "file": file,
            "files": list(RowsOf),
            "wanted": wanted,
            "found": found,
            "failed": failed,
        },
        "links": _links(request, snapshot, file, wanted, found),
    }
    return render(request, "datasets/_row_page.html" if is_htmx(request) else "datasets/rows.html", **context)


def _links(
    request: Request, snapshot: Snapshot, file: RowsOf, wanted: RowFilter, found: RowPage | None
) -> dict[str, str]:
    """This page again, and those before and after it."""
    path = request.app.url_path_for("datasets:rows", snapshot_id=snapshot.id, file=file.value)
    kept = {name: value for name, value in vars(wanted).items() if value}
    number = 1 if found is None else found.number
    last = 1 if found is None else found.last_number
    numbers = {"here": number, "before": number - 1, "after": number + 1}
    return {name: f"{path}?{urlencode({**kept, 'page': each})}" for name, each in numbers.items() if 1 <= each <= last}
