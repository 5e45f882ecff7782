"""The pages of snapshots, and of imported comparisons."""

from fastapi import APIRouter

from app.datasets.views import imports, rows, snapshots

router = APIRouter()
router.include_router(snapshots.router)
router.include_router(imports.router)
router.include_router(rows.router)
