"""The run folder: its files, what the app writes before and during a run, and the metrics of a trainer at work.

The report that ends a run is in `report`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from trainer.contract.base import FORMAT_VERSION, Contract, Messages
from trainer.contract.base import ModelRef as ModelRef  # noqa: PLC0414  (told to those who import it from here)

REQUEST_FILE = "request.json"
CONTROL_FILE = "control.json"
LOCK_FILE = "lock"
METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
CHECKPOINTS_FOLDER = "checkpoints"
MODEL_FOLDER = "model"
REPORT_FILE = "report.json"
LOG_FILE = "log.txt"
"""Where whoever starts the trainer sends its standard output and error."""


class SnapshotRef(Contract):
    """The snapshot a run trains on; the trainer refuses a folder whose rows hash otherwise."""

    path: str
    rows_sha256: str


class Method(StrEnum):
    """What training minimises; `trainer/objectives` has each with its source."""

    DPO = "dpo"
    DPO_NORMALISED = "dpo_normalised"
    """DPO by log-ratios per token, so that length by itself counts for nothing."""
    ROBUST_DPO = "robust_dpo"
    IPO = "ipo"
    HINGE = "hinge"
    SIMPO = "simpo"
    ORPO = "orpo"
    APO_ZERO = "apo_zero"
    APO_DOWN = "apo_down"
    KTO = "kto"
    """Each completion by itself, good or bad; learns from "all bad" too."""
    BCO = "bco"
    SFT = "sft"
    """Demonstrations alone."""
    REWARD_MODEL = "reward_model"
    """No language model: one whose head gives completions rewards (Bradley-Terry, Plackett-Luce)."""


class Tuning(StrEnum):
    """Which weights training changes."""

    AUTO = "auto"
    """LoRA from `trainer.tuning.LORA_ABOVE_PARAMETERS` on and where the start is an adapter, else all weights."""
    FULL = "full"
    LORA = "lora"
    """Low-rank matrices beside every linear layer of the transformer (arXiv:2106.09685): an adapter."""
    LORA_TOP = "lora_top"
    """The same in the topmost layers alone; what lies below is computed once per prompt and kept."""


class Hyperparameters(Contract):
    """Defaults are for a small model (about 1 to 20 M parameters) but for the learning rate; see docs/training.md.

    `likelihood_weight` scales the mean negative log-likelihood of the chosen completion (per token,
    nats); `drift_weight` scales KL(reference || policy) per completion token (nats), leaving out the
    first `drift_skip_tokens` of each completion, where style is chosen.
    """

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The highest one, after the warm-up. Null: by the size of the model and by what is trained (`trainer.rates`)."""
    warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    batch_comparisons: Annotated[
        int, Field(ge=1, le=4096, validation_alias=AliasChoices("batch_comparisons", "batch_pairs"))
    ] = 8
    """Comparisons in one step, each with all its judgments. Older requests call it `batch_pairs`."""
    epochs: Annotated[float, Field(gt=0, le=1000)] = 8.0
    likelihood_weight: Annotated[float, Field(ge=0)] = 0.2
    drift_weight: Annotated[float, Field(ge=0)] = 2.0
    drift_skip_tokens: Annotated[int, Field(ge=0)] = 3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Prompt and completion together; longer completions are dropped and counted. Null: the model's context."""
    rankings: Literal["plackett_luce", "pairs"] = "plackett_luce"
    """How a ranking of three or more counts: as it is, or as the pairs that it sets apart. Methods other than `dpo`,
    `dpo_normalised` and `simpo` know pairs alone, and so does whatever has a margin or smoothing."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of verdicts that are thought to be the wrong way round; for `dpo`, `dpo_normalised` and `robust_dpo`."""
    strength_margin: Annotated[float, Field(ge=0)] = 0.0
    """How much more reward a completion should have that was preferred by one level of strength more than barely; for
    `dpo` and `dpo_normalised`."""
    gamma: Annotated[float, Field(ge=0)] = 0.5
    """Margin between rewards in `simpo`."""
    reward_centring: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared sum of a pair's two rewards in `reward_model`, which keeps rewards around 0."""
    overall_weight: Annotated[float, Field(ge=0)] = 1.0
    """What the overall verdict of a judgment weighs in training, beside its criteria."""
    criteria_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """What a judgment's ranking by a criterion weighs, by the criterion's name; one without a weight is left out."""
    reliability: Literal["ignore", "weight", "smoothing"] = "ignore"
    """What becomes of a verdict that others contradict, m being by how much more people share it than do not, as a
    share of all: `weight` has it count m times, `smoothing` (`dpo` and `dpo_normalised`, as pairs) takes it for wrong
    with probability (1 - m) / 2. Where m is not above 0, either leaves it out."""
    demonstration_epochs: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Times that demonstrations are learnt before preferences; `sft` learns them alone, `epochs` times."""
    tuning: Tuning = Tuning.AUTO
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of a new adapter's matrices; an adapter that is trained further keeps its own."""
    lora_alpha: Annotated[float, Field(gt=0, le=4096)] = 32.0
    """A new adapter's matrices count `lora_alpha / lora_rank` times."""
    lora_layers: Annotated[int, Field(ge=1, le=1024)] = 2
    """How many of the topmost layers `lora_top` trains."""
    merged: bool = False
    """Whether an adapter is written merged into its base, as a full model folder."""


class Matrices(StrEnum):
    """What multiplies matrices on a CPU."""

    TORCH = "torch"
    """What torch takes by itself, mostly MKL."""
    ONEDNN = "onednn"


class Budget(Contract):
    """Where to stop at the latest; null means no limit."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    matrices: Matrices | None = None
    """Null: the faster one on this machine."""
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 25
    evaluate_every_steps: Annotated[int, Field(ge=1)] = 20
    stop_after_evaluations: Annotated[int, Field(ge=0)] = 0
    """Stop once held-out accuracy has not risen for so many evaluations, and take the weights of the best; 0: never."""
    most_chosen_fall: Annotated[float, Field(gt=0)] | None = 1.0
    """Stop once held-out chosen completions are less likely than to the reference by more nats per token than this."""


class EvaluationSampling(Contract):
    """Fresh samples, drawn before and after with the same seeds, for drift, form and the report.

    The `watched_*` are about the few that are drawn at every evaluation while training, for people to watch:
    the first `watched_prompts` of the prompts (0: none), a completion cut at `watched_max_tokens`. An evaluation goes
    without where they have taken more than `watched_share` (0 to 1) of the time of training; the first and the last
    never do.
    """

    prompts: Annotated[int, Field(ge=1, le=1000)] = 48
    samples_per_prompt: Annotated[int, Field(ge=1, le=64)] = 4
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.9
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 96
    watched_prompts: Annotated[int, Field(ge=0, le=50)] = 6
    watched_max_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    watched_share: Annotated[float, Field(ge=0, le=1)] = 0.1


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
    method: Method = Method.DPO
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int = 0
    budget: Budget = Budget()
    sampling: EvaluationSampling = EvaluationSampling()
    probes: list[ProbePrompt] = []
    reward_model: ModelRef | None = None
    """Gives the fresh samples rewards, before and after; null where the line has none."""
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
    `tokens` counts all tokens trained on so far. `tokens_per_second` and `seconds_left` (of the whole run) come once
    there is enough to tell them by. The `held_out_*` figures come on the steps that evaluate, and of the start as step
    0: log-probabilities are means over at most 128 held-out pairs. The `sample_*` figures are of the samples drawn at
    that evaluation (`samples.jsonl`): `sample_kl` is KL(policy || reference) in nats, computed over the whole
    vocabulary at every token that the policy drew and averaged over these tokens; `sample_tokens` their mean length;
    `sample_unfinished` the share cut off at the limit; `sample_repetition` the mean share of word 3-grams that occurred
    before in the sample; `sample_distinct` the share of different texts among all of them (all shares 0 to 1).
    `held_out_chosen_fall` is by how many nats per token chosen completions are less likely than to the reference, and
    `held_out_reward_accuracy` the accuracy by the implicit reward: how far each side has become likelier than that.
    `reward` is the mean over all completions of the batch, `anchor` what KTO and BCO measure rewards from.
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
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    held_out_accuracy: float | None = None
    held_out_reward_accuracy: float | None = None
    held_out_margin: float | None = None
    held_out_chosen_fall: float | None = None
    reward: float | None = None
    anchor: float | None = None
    held_out_pairs: int | None = None
    held_out_chosen_logp: float | None = None
    held_out_rejected_logp: float | None = None
    sample_kl: float | None = None
    sample_tokens: float | None = None
    sample_unfinished: float | None = None
    sample_repetition: float | None = None
    sample_distinct: float | None = None
