"""The time, handed in: services take `now`, and only the edges (requests, jobs, commands) read a clock."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


async def get_now(request: Request) -> datetime:
    """The instant at which this request is served; the same for all that it does."""
    clock: Clock = request.app.state.clock
    return clock()


Now = Annotated[datetime, Depends(get_now)]
