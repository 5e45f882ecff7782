"""The pages of snapshots, of imported comparisons, and of forgetting a person."""

from fastapi import APIRouter

from app.datasets.views import forgetting, imports, rows, snapshots

router = APIRouter()
router.include_router(snapshots.router)
router.include_router(imports.router)
router.include_router(rows.router)
router.include_router(forgetting.router)
