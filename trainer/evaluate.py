"""Measuring a version: held-out preferences, samples drawn afresh, probe prompts.

Two versions are measured alike, on the same pairs, prompts and seeds, whether or not a training lies
between them (`evaluate_versions` compares any two).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field
from transformers import PreTrainedTokenizerBase

from trainer.behaviour import behaviour_of, is_malformed, is_refusal, probe_passed, repetition
from trainer.chat import completion_text, end_token_ids
from trainer.contract.base import Contract, Message
from trainer.contract.files import weights_sha256
from trainer.contract.report import (
    HeldOutDemonstrations,
    HeldOutPair,
    Outcome,
    Preferences,
    ProbeResult,
    PromptSamples,
    Report,
    Sample,
    VersionResults,
)
from trainer.contract.run import ProbePrompt, RunRequest
from trainer.demonstrations import demonstration_groups
from trainer.drawing import Drawing, draw_completions
from trainer.groups import PreferencePair, accepted_prompt, preference_groups, preference_pairs, sides
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import fitting_limits
from trainer.models import base_of, context_tokens, load_model, verify_model
from trainer.packing import Tokens
from trainer.rankings import ranked_texts
from trainer.snapshot import Ranking, Snapshot, read_snapshot


@dataclass(frozen=True)
class SamplePrompt:
    """A prompt to draw samples for, as messages and as the model reads it."""

    prompt_id: str
    messages: tuple[Message, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class AskedProbe:
    """A probe prompt as the model reads it."""

    probe: ProbePrompt
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Examination:
    """What every version of a run is measured on."""

    request: RunRequest
    held_out: list[PreferencePair]
    prompts: list[SamplePrompt]
    demonstrations: list[Tokens]
    """On held-out prompts."""
    probes: list[AskedProbe]
    """Those of the request that the model can be asked."""

    @property
    def left_out(self) -> str:
        """How many probe prompts are not asked, in words; empty where all are."""
        named = self.request.probes
        if len(self.probes) == len(named):
            return ""
        return (
            f"Probe prompts left out: {len(named) - len(self.probes)} of {len(named)}. The model's chat template does "
            f"not take them, or they leave no room for {self.request.sampling.max_tokens} more tokens in what it reads."
        )


class ProbeAnswer(Contract):
    """One version's greedy completion of a probe prompt."""

    text: str
    passed: bool


class Measured(Contract):
    """Everything measured of one version; `samples` per prompt of the examination, `probes` per probe of it."""

    results: VersionResults
    samples: list[list[Sample]]
    probes: list[ProbeAnswer] = Field(default_factory=list)


def examination(
    request: RunRequest,
    snapshot: Snapshot,
    held_out: list[PreferencePair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
) -> Examination:
    """Which pairs, demonstrations and prompts to measure versions on: held-out prompts, and where those are few,
    training prompts to draw samples for.

    Prompts that leave no room for a completion within `max_tokens` (the model's context) are passed over, and so are
    probe prompts.
    """
    room = max_tokens - request.sampling.max_tokens

    def readable(messages: Sequence[Message]) -> tuple[int, ...] | None:
        token_ids = accepted_prompt(tokenizer, tuple(messages))
        return token_ids if token_ids and len(token_ids) <= room else None

    prompts: list[SamplePrompt] = []
    for rankings in (snapshot.held_out, snapshot.train):
        for prompt_id, messages in _shuffled_prompts(rankings, seed=request.seed):
            if len(prompts) == request.sampling.prompts:
                break
            if token_ids := readable(messages):
                prompts.append(SamplePrompt(prompt_id, messages, token_ids))
    written, _dropped = demonstration_groups(snapshot.held_out_demonstrations, tokenizer, max_tokens=max_tokens)
    return Examination(
        request=request,
        held_out=held_out,
        prompts=prompts,
        demonstrations=[sequence for group in written for sequence in group.tree.sequences],
        probes=[AskedProbe(probe, ids) for probe in request.probes if (ids := readable(probe.prompt))],
    )


def _shuffled_prompts(rankings: Sequence[Ranking], *, seed: int) -> list[tuple[str, tuple[Message, ...]]]:
    prompts = sorted({ranking.prompt_id: ranking.prompt for ranking in rankings}.items(), key=lambda item: item[0])
    random.Random(seed).shuffle(prompts)  # noqa: S311  (not a secret)
    return prompts


def measure(
    scorer: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    reference: Scorer | None,
    exam: Examination,
    *,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Measured:
    """Measure one version. `reference` is None where the version is the reference itself."""
    preferences = held_out_preferences(scorer, reference, exam.held_out)
    on_progress(0.2)
    samples = draw_samples(scorer, tokenizer, reference, exam, on_progress=lambda share: on_progress(0.2 + 0.7 * share))
    probes = probe_answers(scorer, tokenizer, exam)
    on_progress(1.0)
    return Measured(
        results=VersionResults(
            preferences=preferences,
            behaviour=behaviour_of(samples),
            demonstrations=held_out_demonstrations(scorer, exam.demonstrations),
        ),
        samples=samples,
        probes=probes,
    )


def held_out_preferences(scorer: Scorer, reference: Scorer | None, pairs: Sequence[PreferencePair]) -> Preferences:
    """Held-out preference accuracy (design.md, section 4) of one version, pair by pair."""
    sequences = sides(pairs)
    logps = scorer.sequence_logps(sequences)
    chosen, rejected = logps[: len(pairs)], logps[len(pairs) :]
    rewards: list[float] = []
    if reference is not None:
        reference_logps = reference.sequence_logps(sequences)
        log_ratios = [ours - theirs for ours, theirs in zip(logps, reference_logps, strict=True)]
        rewards = [log_ratios[index] - log_ratios[index + len(pairs)] for index in range(len(pairs))]
    per_token = [
        chosen[index] / len(pair.chosen.completion) - rejected[index] / len(pair.rejected.completion)
        for index, pair in enumerate(pairs)
    ]
    return Preferences(
        pairs=[
            HeldOutPair(
                prompt_id=pair.prompt_id,
                chosen_id=pair.chosen_id,
                rejected_id=pair.rejected_id,
                weight=pair.weight,
                chosen_logp=chosen[index],
                rejected_logp=rejected[index],
                chosen_tokens=len(pair.chosen.completion),
                rejected_tokens=len(pair.rejected.completion),
            )
            for index, pair in enumerate(pairs)
        ],
        prompts=len({pair.prompt_id for pair in pairs}),
        accuracy=favoured_share([best - worst for best, worst in zip(chosen, rejected, strict=True)]),
        normalised_accuracy=favoured_share(per_token),
        reward_accuracy=favoured_share(rewards),
    )


def held_out_demonstrations(scorer: Scorer, demonstrations: Sequence[Tokens]) -> HeldOutDemonstrations | None:
    """How likely a version finds demonstrations; None without any."""
    if not demonstrations:
        return None
    tokens = sum(len(sequence.completion) for sequence in demonstrations)
    return HeldOutDemonstrations(
        demonstrations=len(demonstrations), logp_per_token=sum(scorer.sequence_logps(demonstrations)) / tokens
    )


def favoured_share(margins: Sequence[float]) -> float | None:
    """Share of margins above zero, zero counting half; None without any."""
    if not margins:
        return None
    return sum(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins) / len(margins)


def draw_samples(
    scorer: Scorer,
    tokenizer: PreTrainedTokenizerBase,
    reference: Scorer | None,
    exam: Examination,
    *,
    on_progress: Callable[[float], None],
) -> list[list[Sample]]:
    """Fresh samples of the examination's prompts, with what the behaviour figures need."""
    sampling = exam.request.sampling
    drawing = Drawing(
        copies=sampling.samples_per_prompt,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=exam.request.seed,
    )
    model = scorer.model
    end_ids = end_token_ids(tokenizer, model.config, model.generation_config)
    drawn = draw_completions(
        model,
        [prompt.token_ids for prompt in exam.prompts],
        drawing,
        end_ids=end_ids,
        limits=scorer.limits,
        on_progress=on_progress,
    )
    sequences = [
        Tokens(prompt.token_ids, tuple(token_ids))
        for prompt, completions in zip(exam.prompts, drawn, strict=True)
        for token_ids in completions
    ]
    drifts = iter(_drift_per_token(scorer, reference, sequences))
    return [[sample_of(tokenizer, ids, end_ids, drift=next(drifts)) for ids in completions] for completions in drawn]


def _drift_per_token(scorer: Scorer, reference: Scorer | None, sequences: Sequence[Tokens]) -> list[float]:
    if reference is None:
        return [0.0] * len(sequences)
    ours, theirs = scorer.sequence_logps(sequences), reference.sequence_logps(sequences)
    return [
        (mine - other) / len(sequence.completion) for mine, other, sequence in zip(ours, theirs, sequences, strict=True)
    ]


def sample_of(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], end_ids: set[int], *, drift: float
) -> Sample:
    """What was drawn, as text and figures."""
    finished = token_ids[-1] in end_ids
    body = list(token_ids[:-1] if finished else token_ids)
    text = completion_text(tokenizer, body)
    return Sample(
        text=text,
        tokens=len(body),
        finished=finished,
        repetition=repetition(text),
        refusal=is_refusal(text),
        malformed=is_malformed(text) or not set(tokenizer.all_special_ids).isdisjoint(body),
        drift=drift,
    )


def probe_answers(scorer: Scorer, tokenizer: PreTrainedTokenizerBase, exam: Examination) -> list[ProbeAnswer]:
    """The greedy completion of every probe prompt, and whether it passes."""
    model = scorer.model
    end_ids = end_token_ids(tokenizer, model.config, model.generation_config)
    most, seed = exam.request.sampling.max_tokens, exam.request.seed
    drawing = Drawing(copies=1, temperature=0.0, top_p=1.0, max_tokens=most, seed=seed)
    prompts = [asked.token_ids for asked in exam.probes]
    answers: list[ProbeAnswer] = []
    completions = draw_completions(model, prompts, drawing, end_ids=end_ids, limits=scorer.limits)
    for asked, drawn in zip(exam.probes, completions, strict=True):
        text = completion_text(tokenizer, [token for token in drawn[0] if token not in end_ids])
        answers.append(ProbeAnswer(text=text, passed=probe_passed(asked.probe, text)))
    return answers


def prompt_samples(exam: Examination, before: Measured, after: Measured | None) -> list[PromptSamples]:
    """Samples side by side, prompt by prompt; `after` is None where the run did not come so far."""
    return [
        PromptSamples(
            prompt_id=prompt.prompt_id,
            prompt=list(prompt.messages),
            before=before.samples[index],
            after=after.samples[index] if after else [],
        )
        for index, prompt in enumerate(exam.prompts)
    ]


def probe_results(exam: Examination, before: Measured, after: Measured) -> list[ProbeResult]:
    """Probe prompts before and after."""
    return [
        ProbeResult(
            name=asked.probe.name,
            prompt=asked.probe.prompt,
            expected=asked.probe.expected,
            before=earlier.text,
            after=later.text,
            passed_before=earlier.passed,
            passed_after=later.passed,
        )
        for asked, earlier, later in zip(exam.probes, before.probes, after.probes, strict=True)
    ]


def evaluate_versions(request: RunRequest, *, before: Path, after: Path) -> Report:
    """Measure two model folders against each other as a run would, without training.

    Snapshot, reference, sampling, probes and seed are the request's; the report is what a run that had
    turned `before` into `after` would have written. Raises TrainerError.
    """
    started_at = datetime.now(UTC)
    snapshot = read_snapshot(Path(request.snapshot.path), rows_sha256=request.snapshot.rows_sha256)
    reference, _ = load_model(verify_model(request.reference), base=base_of(request.reference))
    model, tokenizer = load_model(before)
    limit = context_tokens(model)
    ranked, dropped = ranked_texts(snapshot.held_out)
    groups, over_long = preference_groups(
        ranked, tokenizer, max_tokens=min(limit, request.hyperparameters.max_tokens or limit)
    )
    held_out = preference_pairs(groups)
    exam = examination(request, snapshot, held_out, tokenizer, max_tokens=limit)
    hashes = {"start": weights_sha256(before), "model": weights_sha256(after), "reference": request.reference.sha256}
    is_reference = hashes["start"] == request.reference.sha256
    models = (reference, model, load_model(after)[0])
    frozen, first, second = (fitting_scorer(each.requires_grad_(False)) for each in models)
    frozen.limits = first.limits = second.limits = fitting_limits(frozen)
    earlier = measure(first, tokenizer, None if is_reference else frozen, exam)
    later = measure(second, tokenizer, frozen, exam)
    return Report(
        run_id=request.run_id,
        state=Outcome.SUCCEEDED,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        rankings=len(snapshot.train) + len(snapshot.held_out),
        held_out_pairs=len(held_out),
        dropped=dict(dropped + over_long),
        before=earlier.results,
        after=later.results,
        samples=prompt_samples(exam, earlier, later),
        probes=probe_results(exam, earlier, later),
        hashes={**hashes, "rows_sha256": request.snapshot.rows_sha256},
    )
