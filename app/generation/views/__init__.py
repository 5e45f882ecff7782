"""Pages of a campaign's prompts and of the files they were imported from."""

from fastapi import APIRouter

from app.generation.views import imports, prompts

router = APIRouter(prefix="/campaigns/{campaign_id}")
for part in (prompts, imports):
    router.include_router(part.router)
