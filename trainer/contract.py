"""What the app and the trainer promise each other; imports no torch, so the app may import it.

Three meeting places: the snapshot folder (written by the app, read by the trainer and by researchers'
own tools), the run folder (`request.json` and `control.json` by the app, the rest by the trainer), and
the model server's admin API. `docs/formats.md` describes the same for readers without the code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pyarrow

FORMAT_VERSION = 1
"""Version of the snapshot and run folders; a reader refuses a newer one."""


class Contract(BaseModel):
    """A value that crosses between app and trainer: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Message(Contract):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Messages = list[Message]


# --- Snapshot folder ------------------------------------------------------------------------------------

JUDGMENTS_FILE = "judgments.parquet"
RANKINGS_TRAIN_FILE = "rankings.train.parquet"
RANKINGS_EVAL_FILE = "rankings.eval.parquet"
DEMONSTRATIONS_FILE = "demonstrations.parquet"
CARD_FILE = "README.md"
MANIFEST_FILE = "manifest.json"


def _messages_type() -> pyarrow.DataType:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def rankings_schema() -> pyarrow.Schema:
    """Columns of `rankings.{train,eval}.parquet`: one row per ranking that training may use.

    `ranks` holds one int per completion (1 = best, ties equal). `strengths` holds one int per adjacent
    pair of tie groups, or is null. `ratings` and `flags` are per completion, in the order of `completions`.
    `criterion` is null for the overall verdict.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt", _messages_type()),
            ("completion_ids", pa.list_(pa.string())),
            ("completions", pa.list_(_messages_type())),
            ("model_versions", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.int32())),
            ("strengths", pa.list_(pa.int32())),
            ("all_bad", pa.bool_()),
            ("ratings", pa.list_(pa.float64())),
            ("flags", pa.list_(pa.list_(pa.string()))),
            ("weight", pa.float64()),
            ("judgments", pa.int32()),
            ("agreement", pa.float64()),
            ("criterion", pa.string()),
        ]
    )


def judgments_schema() -> pyarrow.Schema:
    """Columns of `judgments.parquet`: one row per current judgment, lossless, annotators pseudonymised.

    `ranking` lists tie groups of completion ids, best first; it is null where only `all_bad` was given.
    `criteria` maps a criterion to its ranking, `ratings` and `flags` a completion id to its own: JSON text.
    `rationale` is null unless the policy opted in (it is personal text).
    """
    import pyarrow as pa

    stamp = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("judgment_id", pa.string()),
            ("comparison_id", pa.string()),
            ("campaign_id", pa.string()),
            ("campaign_revision", pa.int32()),
            ("prompt_id", pa.string()),
            ("split", pa.string()),
            ("prompt", _messages_type()),
            ("completion_ids", pa.list_(pa.string())),
            ("completions", pa.list_(_messages_type())),
            ("model_versions", pa.list_(pa.string())),
            ("annotator", pa.string()),
            ("shown_order", pa.list_(pa.string())),
            ("ranking", pa.list_(pa.list_(pa.string()))),
            ("all_bad", pa.bool_()),
            ("strengths", pa.list_(pa.int32())),
            ("criteria", pa.string()),
            ("ratings", pa.string()),
            ("flags", pa.string()),
            ("rationale", pa.string()),
            ("confidence", pa.int32()),
            ("active_ms", pa.int64()),
            ("surplus", pa.bool_()),
            ("ui_version", pa.string()),
            ("judged_at", stamp),
            ("source", pa.string()),
        ]
    )


def demonstrations_schema() -> pyarrow.Schema:
    """Columns of `demonstrations.parquet`: completions that people wrote or corrected."""
    import pyarrow as pa

    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt", _messages_type()),
            ("completion", _messages_type()),
            ("author", pa.string()),
            ("source", pa.string()),
        ]
    )


class SnapshotPolicy(Contract):
    """How judgments become training rows. Same policy and judgments: same rows, same hash."""

    aggregation: Literal["per_judgment"] = "per_judgment"
    """One row per judgment, each of weight 1/R where R is the comparison's redundancy."""
    include_surplus: bool = False
    include_rationales: bool = False
    incomplete_comparisons: bool = True
    """Whether a comparison still short of its redundancy contributes the judgments that it has."""


class FileEntry(Contract):
    """One file of a snapshot, as the manifest lists it."""

    sha256: str
    bytes: int
    rows: int | None = None


class SnapshotManifest(Contract):
    """`manifest.json`, written last: a snapshot folder with a manifest is whole."""

    format_version: int = FORMAT_VERSION
    snapshot_id: str
    name: str
    created_at: datetime
    policy: SnapshotPolicy
    scope: dict[str, str]
    """What was frozen: `line` and, where one campaign alone was asked for, `campaign`."""
    as_of: datetime
    counts: dict[str, int]
    """judgments, surplus, rankings_train, rankings_eval, all_bad_only, prompts, annotators, demonstrations."""
    files: dict[str, FileEntry]
    rows_sha256: str
    """Hash of the canonical rows (`rows_digest`), independent of Parquet's encoding."""
    parent: str | None = None
    on_policy_share: float | None = None
    """Share of completions written by the line's current version when frozen; null without any."""


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over rows as canonical JSON lines, in the order given; timestamps as ISO 8601."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_jsonable)
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _jsonable(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")


# --- Run folder -----------------------------------------------------------------------------------------

REQUEST_FILE = "request.json"
CONTROL_FILE = "control.json"
LOCK_FILE = "lock"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
MODEL_FOLDER = "model"
REPORT_FILE = "report.json"
LOG_FILE = "log.txt"
"""Where whoever starts the trainer sends its standard output and error."""


class SnapshotRef(Contract):
    """The snapshot a run trains on; the trainer refuses a folder whose rows hash otherwise."""

    path: str
    rows_sha256: str


class ModelRef(Contract):
    """A model folder and the hash of its weights (`weights_sha256`); the trainer refuses another."""

    name: str
    path: str
    sha256: str


class Hyperparameters(Contract):
    """Defaults are for a small model (about 1 to 20 M parameters); see docs/training.md.

    `likelihood_weight` scales the mean negative log-likelihood of the chosen completion (per token,
    nats); `drift_weight` scales KL(reference || policy) per completion token (nats), leaving out the
    first `drift_skip_tokens` of each completion, where style is chosen.
    """

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    batch_pairs: Annotated[int, Field(ge=1, le=4096)] = 8
    epochs: Annotated[float, Field(gt=0, le=1000)] = 8.0
    likelihood_weight: Annotated[float, Field(ge=0)] = 0.2
    drift_weight: Annotated[float, Field(ge=0)] = 2.0
    drift_skip_tokens: Annotated[int, Field(ge=0)] = 3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Prompt and completion together; longer pairs are dropped and counted. Null: the model's context."""


class Budget(Contract):
    """Where to stop at the latest; null means no limit."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 25
    evaluate_every_steps: Annotated[int, Field(ge=1)] = 20


class EvaluationSampling(Contract):
    """Fresh samples, drawn before and after with the same seeds, for drift, form and the report."""

    prompts: Annotated[int, Field(ge=1, le=1000)] = 48
    samples_per_prompt: Annotated[int, Field(ge=1, le=64)] = 4
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.9
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 96


class ProbePrompt(Contract):
    """A prompt whose greedy completion must contain one of `expected` (case aside) and none of `forbidden`.

    With both empty it is enough that the completion is well formed.
    """

    name: str
    prompt: Messages
    expected: list[str] = []
    forbidden: list[str] = []


class RunRequest(Contract):
    """`request.json`: all that a run needs to know."""

    format_version: int = FORMAT_VERSION
    run_id: str
    version_name: str
    """What the trained version will be called, e.g. `starter-v2`."""
    snapshot: SnapshotRef
    base_model: ModelRef
    start: ModelRef
    reference: ModelRef
    method: Literal["dpo"] = "dpo"
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int = 0
    budget: Budget = Budget()
    sampling: EvaluationSampling = EvaluationSampling()
    probes: list[ProbePrompt] = []
    reference_cache: str | None = None
    """Folder for log-probabilities of the reference, keyed by the hashes of model, prompt and completion."""


class Command(StrEnum):
    """What `control.json` may ask of a running trainer; read between steps."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Control(Contract):
    """`control.json`."""

    command: Command = Command.RUN


class Stage(StrEnum):
    """Where a run is; each metrics row names one."""

    LOADING = "loading"
    BEFORE = "before"
    """Evaluating the start: held-out accuracy, samples, probes."""
    REFERENCE = "reference"
    TRAINING = "training"
    AFTER = "after"
    WRITING = "writing"


class MetricsRow(Contract):
    """One line of `metrics.jsonl`. After a resume the last row of a (stage, step) counts.

    `fraction` is the share of the whole run done so far (0 to 1), for a progress bar. Log-probabilities
    and margins are means over the batch in nats; the margin is beta times the difference of log-ratios.
    `tokens` counts all tokens trained on so far. The `held_out_*` figures come on the steps that evaluate.
    """

    at: datetime
    stage: Stage
    fraction: Annotated[float, Field(ge=0, le=1)]
    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    message: str | None = None
    loss: float | None = None
    preference_loss: float | None = None
    likelihood_loss: float | None = None
    drift: float | None = None
    chosen_logp: float | None = None
    rejected_logp: float | None = None
    margin: float | None = None
    reward_accuracy: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    tokens: int | None = None
    held_out_accuracy: float | None = None
    held_out_margin: float | None = None


class HeldOutPair(Contract):
    """One held-out pair under one version: log-probabilities in nats, summed over completion tokens."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    weight: float
    chosen_logp: float
    rejected_logp: float
    chosen_tokens: int
    rejected_tokens: int


class Preferences(Contract):
    """Held-out preference accuracy of one version.

    `accuracy`: share of held-out pairs with log p(chosen) > log p(rejected), ties counting half;
    `normalised_accuracy`: the same per token. `reward_accuracy`: the share whose log-ratio to the
    reference favours the chosen one (null where the version is the reference itself).
    All three are null without a held-out pair.
    """

    pairs: list[HeldOutPair]
    prompts: int
    accuracy: float | None
    normalised_accuracy: float | None
    reward_accuracy: float | None = None


class Sample(Contract):
    """One completion drawn for the report, with what the behaviour figures need."""

    text: str
    tokens: int
    finished: bool
    """Whether it ended by itself rather than at the token limit."""
    repetition: float
    """Share of its word 3-grams that occurred before in it (0 to 1)."""
    refusal: bool
    malformed: bool
    drift: float
    """Monte-Carlo estimate of KL(version || reference) on this sample: log p - log p_ref, nats per token."""


class PromptSamples(Contract):
    """The samples of one prompt, before and after, drawn with the same seeds."""

    prompt_id: str
    prompt: Messages
    before: list[Sample]
    after: list[Sample]


class Behaviour(Contract):
    """Means over all samples of one version: what it does, whether or not anyone asked for it."""

    samples: int
    mean_tokens: float
    unfinished_share: float
    repetition: float
    refusal_share: float
    malformed_share: float
    drift: float
    distinct_share: float
    """Share of a prompt's samples that differ after normalisation, averaged over prompts."""


class ProbeResult(Contract):
    """One probe prompt, greedy, before and after."""

    name: str
    prompt: Messages
    expected: list[str] = []
    before: str
    after: str
    passed_before: bool
    passed_after: bool


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class VersionResults(Contract):
    """Everything measured of one version, the start (`before`) or the trained one (`after`)."""

    preferences: Preferences
    behaviour: Behaviour


class Report(Contract):
    """`report.json`, written last. A failed or cancelled run carries what it had, and `message`."""

    format_version: int = FORMAT_VERSION
    run_id: str
    state: Outcome
    message: str = ""
    started_at: datetime
    finished_at: datetime
    steps: int = 0
    resumed: int = 0
    """How many times the run was taken up again from a checkpoint."""
    seconds: dict[str, float] = {}
    """Wall time per stage."""
    rankings: int = 0
    train_pairs: int = 0
    held_out_pairs: int = 0
    train_tokens: int = 0
    dropped: dict[str, int] = {}
    """Rows and pairs left out, by reason: tie, all_bad, over_long, empty, same_text, criterion, not_text, template.

    Training and held-out ones together, so that with pairs alone rankings = train_pairs + held_out_pairs + dropped.
    """
    before: VersionResults | None = None
    after: VersionResults | None = None
    samples: list[PromptSamples] = []
    probes: list[ProbeResult] = []
    libraries: dict[str, str] = {}
    hashes: dict[str, str] = {}
    """rows_sha256, start, reference, and `model`: `weights_sha256` of the model folder."""


# --- Model server ---------------------------------------------------------------------------------------


class LoadVersion(Contract):
    """`POST /admin/versions`: load a model folder under a name; loading the same again changes nothing."""

    name: str
    path: str
    sha256: str
    warm: bool = True


class PointAlias(Contract):
    """`PUT /admin/aliases`: requests that name `alias` go to `version` from now on."""

    alias: str
    version: str


class LoadedVersion(Contract):
    """One version in memory."""

    name: str
    path: str
    sha256: str
    bytes: int
    requests_under_way: int
    chat_template_sha256: str
    tokenizer_sha256: str
    context_tokens: int


class ServerState(Contract):
    """`GET /admin/state`."""

    versions: list[LoadedVersion]
    aliases: dict[str, str]


def version_name(line_slug: str, number: int) -> str:
    """The name of a model version on the model server and in datasets: `starter-v0` is a line's base."""
    return f"{line_slug}-v{number}"


def alias_name(line_slug: str, alias: str) -> str:
    """The name of a line's alias on the model server: `starter/current`."""
    return f"{line_slug}/{alias}"


# --- Files ----------------------------------------------------------------------------------------------

ContractT = TypeVar("ContractT", bound=Contract)


def read_json(path: Path, schema: type[ContractT]) -> ContractT:
    """Parse a contract file; pydantic's error names the field that is off."""
    return schema.model_validate_json(path.read_bytes())


def write_json(path: Path, value: Contract) -> None:
    """Write a contract file so that a reader sees the old one or the new one, whole, after any crash."""
    write_whole(path, value.model_dump_json(indent=1).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably (write beside it, flush to disk, rename)."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


MODEL_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
    }
)
"""Files of a model folder, beside `*.safetensors`, that decide what the model writes."""


def weights_sha256(folder: Path) -> str:
    """One hash for a model folder: over the names and hashes of its weights and of `MODEL_FILES`.

    Raises FileNotFoundError where the folder has no safetensors file.
    """
    names = sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors" or p.name in MODEL_FILES)
    if not any(name.endswith(".safetensors") for name in names):
        raise FileNotFoundError(f"{folder} holds no .safetensors file")
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}:{file_sha256(folder / name)}\n".encode())
    return digest.hexdigest()
