"""Memory that is freed stays with the process, and goes back to the system when it is told to."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from pathlib import Path
import torch
from trainer.allocator import give_back_freed_memory, keep_freed_memory

def faults_of_steps(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        first = torch.ones(16_000_000)
        second = torch.ones(8_000_000)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    keep_freed_memory()
faults_of_steps(20)
print(faults_of_steps(20), resident())
give_back_freed_memory()
print(resident())
"""
BYTES = 4 * 24_000_000


def said(*arguments: str) -> list[int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_a_step_allocates_from_what_the_step_before_it_freed() -> None:
    """Once the heap has settled: its first holes miss what comes next by the bytes of an alignment."""
    faults_before, *_ = said("as it is")
    faults, resident, after = said("keep")
    assert faults < faults_before / 10
    assert after < resident - 0.9 * BYTES, "given back when told to"
