"""Pages of campaigns: the list, the form, a campaign's own page, and its people."""

from fastapi import APIRouter

from app.campaigns.views import campaigns, people

router = APIRouter()
for part in (campaigns, people):
    router.include_router(part.router)
