"""Whether this process lives and can do its work, for supervisors and load balancers."""

from fastapi import APIRouter, Depends
from sqlalchemy import text

from app.accounts.access import anyone
from app.database import DbSession

router = APIRouter(dependencies=[Depends(anyone)])


@router.get("/healthz", name="health:alive")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", name="health:ready")
def ready(session: DbSession) -> dict[str, str]:
    """The process answers and its database does too."""
    session.execute(text("SELECT 1"))
    return {"status": "ready"}
