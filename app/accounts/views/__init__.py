"""Pages of accounts: signing in and out, one-time links, one's own account, and the people of the installation."""

from fastapi import APIRouter

from app.accounts.views import account, invitations, joining, people, signing_in

router = APIRouter()
for part in (signing_in, joining, account, invitations, people):
    router.include_router(part.router)
router.include_router(joining.as_oneself)
