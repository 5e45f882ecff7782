"""What a process says of itself: where it runs, since when, on which code, with how much memory. Standard library."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainer.contract.base import Contract

ROOT = Path(__file__).resolve().parent.parent.parent
_STARTED_AT = datetime.now(UTC)


class ProcessFacts(Contract):
    """One process, as of the moment in which it was asked."""

    host: str
    pid: int
    started_at: datetime
    version: str
    """The release, and after a plus sign a mark of the very code: two processes with one mark run the same."""
    memory_bytes: int
    """Resident."""


def this_process() -> ProcessFacts:
    """The facts of the process that asks."""
    return ProcessFacts(
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=_STARTED_AT,
        version=code_version(),
        memory_bytes=_resident_bytes(),
    )


@lru_cache
def code_version() -> str:
    """Release and mark of the code on disk when first asked, which is when the process starts."""
    try:
        release = version("palate")
    except PackageNotFoundError:
        release = "unreleased"
    digest = hashlib.sha256()
    for package in ("app", "trainer", "migrations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return f"{release}+{digest.hexdigest()[:8]}"


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # no Linux: the most that it ever was, which is in bytes on macOS
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
