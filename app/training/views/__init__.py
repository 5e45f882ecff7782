"""The pages of training, and of the model lines that it makes versions of."""

from fastapi import APIRouter

from app.training.views import endpoints, lines, runs

router = APIRouter()
router.include_router(endpoints.router)
router.include_router(lines.router)
router.include_router(runs.router)
