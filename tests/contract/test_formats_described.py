"""docs/formats.md: its examples are valid, and it names every field of the contract."""

import re

import pytest
from pydantic import BaseModel

from app.datasets.house import (
    HouseComparison,
    HouseCompletion,
    HouseDemonstration,
    HouseJudgment,
    HouseSampling,
    HouseSpan,
    parse_line,
)
from app.datasets.service.freezing import COUNTS
from app.settings import ROOT
from trainer.contract import report, run, snapshot, watching
from trainer.contract.base import Contract
from trainer.contract.run import Hyperparameters

DOCUMENT = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(json[^\n]*)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
SCHEMAS: dict[str, type[Contract]] = {
    "json manifest": snapshot.SnapshotManifest,
    "json request": run.RunRequest,
    "json base": run.ModelRef,
    "json report": report.Report,
    "jsonl metrics": run.MetricsRow,
    "jsonl samples": watching.WatchedSamples,
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_examples_of_folders_are_valid(kind: str) -> None:
    (example,) = [text for name, text in EXAMPLES if name == kind]
    assert SCHEMAS[kind].model_validate_json(example)


def test_the_examples_of_the_house_format_load() -> None:
    (example,) = [text for name, text in EXAMPLES if name == "jsonl"]
    assert [len(parse_line(line.encode()).judgments) for line in example.splitlines()] == [0, 2]


@pytest.mark.parametrize(
    "schema",
    [
        *(HouseComparison, HouseCompletion, HouseJudgment, HouseSampling, HouseSpan, HouseDemonstration),
        *(snapshot.SnapshotManifest, snapshot.SnapshotPolicy, snapshot.FileEntry),
        *(run.RunRequest, run.SnapshotRef, run.ModelRef, run.Hyperparameters, run.Budget),
        *(run.EvaluationSampling, run.ProbePrompt, run.Control, run.MetricsRow, report.Report),
        *(report.VersionResults, report.Preferences, report.HeldOutPair, report.Behaviour),
        *(report.PromptSamples, report.Sample, report.ProbeResult),
        *(watching.WatchedSamples, watching.WatchedPrompt, watching.WatchedSample),
        *(report.RewardModelResults, report.HeldOutRewards, report.HeldOutReward),
    ],
)
def test_every_field_is_named(schema: type[BaseModel]) -> None:
    missing = [name for name in schema.model_fields if f"`{name}`" not in DOCUMENT and f'"{name}"' not in DOCUMENT]
    assert missing == []


def test_every_column_count_stage_and_state_is_named() -> None:
    schemas = (snapshot.rankings_schema(), snapshot.judgments_schema(), snapshot.demonstrations_schema())
    names = [*(name for schema in schemas for name in schema.names), *COUNTS, *run.Stage, *report.Outcome]
    assert [name for name in names if f"`{name}`" not in DOCUMENT and f'"{name}"' not in DOCUMENT] == []


def test_settings_of_older_requests_are_understood() -> None:
    assert Hyperparameters.model_validate({"batch_pairs": 3}).batch_comparisons == 3
