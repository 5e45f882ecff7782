"""`report.json` of the run folder: how a run ended, and what it changed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from trainer.contract.base import FORMAT_VERSION, Contract, Messages


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


class HeldOutReward(Contract):
    """One held-out pair under a reward model."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    weight: float
    chosen_reward: float
    rejected_reward: float


class HeldOutRewards(Contract):
    """Held-out pairs under a reward model. `accuracy`: the share in which the chosen one has more reward, ties counting
    half; null without a held-out pair.
    """

    pairs: list[HeldOutReward]
    prompts: int
    accuracy: float | None


class RewardModelResults(Contract):
    """What a run that trains a reward model has measured: with a fresh head, which is chance, and trained."""

    before: HeldOutRewards | None = None
    after: HeldOutRewards | None = None


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
    reward: float | None = None
    """By the reward model of the request; null without one, or where that cannot read it whole."""


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
    reward: float | None = None
    """Mean over the samples that have one."""


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


class HeldOutDemonstrations(Contract):
    """How likely a version finds what people wrote for held-out prompts."""

    demonstrations: int
    logp_per_token: float
    """Mean over all their tokens of log p(token | what came before), in nats."""


class VersionResults(Contract):
    """Everything measured of one version, the start (`before`) or the trained one (`after`)."""

    preferences: Preferences
    behaviour: Behaviour
    demonstrations: HeldOutDemonstrations | None = None
    """Null where nobody wrote for a held-out prompt."""


class Report(Contract):
    """`report.json`, written last. A failed or cancelled run carries what it had, and `message`."""

    format_version: int = FORMAT_VERSION
    run_id: str
    state: Outcome
    message: str = ""
    started_at: datetime
    finished_at: datetime
    steps: int = 0
    stopped: str = ""
    """Why training stopped before its last step, in words; empty where it did not, or where time ran out."""
    best_step: int | None = None
    """The step whose weights the version has, where the best evaluation's were taken; null: those of the last step."""
    learning_rate: float | None = None
    """The highest one of the last phase, asked for or chosen by size. Null where training was not reached."""
    resumed: int = 0
    """How many times the run was taken up again from a checkpoint."""
    seconds: dict[str, float] = {}
    """Wall time per stage."""
    rankings: int = 0
    train_pairs: int = 0
    held_out_pairs: int = 0
    train_tokens: int = 0
    demonstrations: int = 0
    """Trained on; none where the request asks for none."""
    dropped: dict[str, int] = {}
    """Rows and pairs left out, by reason: tie, all_bad, over_long, empty, same_text, criterion, overall,
    disagreement, not_text, template, demonstration.

    Training and held-out ones together, so that with pairs alone rankings = train_pairs + held_out_pairs + dropped.
    """
    before: VersionResults | None = None
    after: VersionResults | None = None
    reward_model: RewardModelResults | None = None
    """Of a run that trains a reward model; null of any other. Such a run has neither `before` nor `after`, nor samples.
    """
    samples: list[PromptSamples] = []
    probes: list[ProbeResult] = []
    libraries: dict[str, str] = {}
    hashes: dict[str, str] = {}
    """rows_sha256, start, reference, and `model`: `weights_sha256` of the model folder."""
