"""CPU time of running processes, their children included, and their memory."""

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants so far, those that ended and were waited for too."""
    total = 0.0
    for process in _family(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_megabytes(pid: int) -> float:
    """Memory that a process and its descendants hold, pages that they share counted once (PSS)."""
    return sum(process.memory_full_info().pss for process in _family(pid)) / 1e6


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
