"""What a run finds out, and the report that is made of it however the run ends."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from trainer.contract.report import HeldOutRewards, Outcome, Report, RewardModelResults
from trainer.contract.run import (
    Method,
    RunRequest,
)
from trainer.evaluate import Examination, Measured, probe_results, prompt_samples
from trainer.material import Material
from trainer.record import Recorder

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "pyarrow")


@dataclass
class Findings:
    """What a run knows of itself so far; a report is made of it however the run ends."""

    request: RunRequest | None = None
    steps: int = 0
    rankings: int = 0
    train_tokens: int = 0
    stopped: str = ""
    best_step: int = 0
    learning_rate: float | None = None
    material: Material = field(default_factory=Material)
    hashes: dict[str, str] = field(default_factory=dict)
    exam: Examination | None = None
    before: Measured | None = None
    after: Measured | None = None
    rewards_before: HeldOutRewards | None = None
    rewards_after: HeldOutRewards | None = None


def report_of(folder: Path, recorder: Recorder | None, findings: Findings, state: Outcome, message: str) -> Report:
    now = datetime.now(UTC)
    both = findings.before is not None and findings.after is not None
    exam, before, after = findings.exam, findings.before, findings.after
    return Report(
        run_id=findings.request.run_id if findings.request else folder.name,
        state=state,
        message=message,
        started_at=recorder.started_at if recorder else now,
        finished_at=now,
        steps=findings.steps or (recorder.step if recorder else 0),
        stopped=findings.stopped,
        best_step=findings.best_step or None,
        learning_rate=findings.learning_rate,
        resumed=recorder.resumed if recorder else 0,
        seconds={name: round(value, 3) for name, value in recorder.seconds.items()} if recorder else {},
        rankings=findings.rankings,
        train_pairs=findings.material.pairs,
        held_out_pairs=len(findings.material.held_out),
        demonstrations=len(findings.material.demonstrations),
        train_tokens=findings.train_tokens or (recorder.tokens if recorder else 0),
        dropped=dict(+findings.material.dropped),
        before=before.results if before else None,
        after=after.results if after else None,
        reward_model=_reward_model(findings),
        samples=prompt_samples(exam, before, after) if exam and before else [],
        probes=probe_results(exam, before, after) if both and exam and before and after else [],
        libraries={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        hashes=findings.hashes,
    )


def _reward_model(findings: Findings) -> RewardModelResults | None:
    if findings.request is None or findings.request.method is not Method.REWARD_MODEL:
        return None
    return RewardModelResults(before=findings.rewards_before, after=findings.rewards_after)
