"""CPU time of running processes, their children included, and their memory; and how fast the machine is just now."""

import time

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


def yardstick_ms() -> float:
    """CPU milliseconds of a million squares added up in Python, best of five.

    The same machine takes 50 ms in one hour and 100 in another; figures of two hours compare by their yardsticks.
    """
    return min(_million_squares() for _ in range(5))


def _million_squares() -> float:
    begun = time.process_time()
    sum(number * number for number in range(1_000_000))
    return 1000 * (time.process_time() - begun)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
