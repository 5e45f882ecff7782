"""Reports for the gate, each saying only what matters to its test."""

from collections.abc import Sequence
from typing import Any

from tests.conftest import NOW
from trainer.contract.base import Message
from trainer.contract.report import (
    Behaviour,
    HeldOutPair,
    Outcome,
    Preferences,
    ProbeResult,
    PromptSamples,
    Report,
    Sample,
    VersionResults,
)

QUESTION = "What colour is the sky?"
Margins = Sequence[float]
"""log p(chosen) - log p(rejected) of each held-out pair, every pair of a prompt of its own."""


def preferences(margins: Margins, *, prompts: Sequence[int] | None = None, weight: float = 1.0) -> Preferences:
    """A version under which the held-out pairs have these margins; `prompts` says which pairs share one."""
    of = prompts if prompts is not None else range(len(margins))
    pairs = [
        HeldOutPair(
            prompt_id=f"prompt-{prompt}", chosen_id=f"{place}-a", rejected_id=f"{place}-b", weight=weight,
            chosen_logp=-10.0 + margin, rejected_logp=-10.0, chosen_tokens=5, rejected_tokens=5,
        )
        for place, (prompt, margin) in enumerate(zip(of, margins, strict=True))
    ]  # fmt: skip
    right = [0.5 if margin == 0 else float(margin > 0) for margin in margins]
    accuracy = sum(right) / len(right) if right else None
    return Preferences(pairs=pairs, prompts=len(set(of)), accuracy=accuracy, normalised_accuracy=accuracy)


def sample(text: str = "It is blue.", **given: Any) -> Sample:
    """One ordinary sample, but for what is given."""
    plain = {"tokens": 10, "finished": True, "repetition": 0.0, "refusal": False, "malformed": False, "drift": 0.05}
    return Sample(text=text, **{**plain, **given})


def behaviour(samples: Sequence[Sample]) -> Behaviour:
    """The means over samples."""

    def mean(name: str) -> float:
        return sum(float(getattr(each, name)) for each in samples) / max(1, len(samples))

    return Behaviour(
        samples=len(samples),
        mean_tokens=mean("tokens"),
        unfinished_share=1 - mean("finished"),
        repetition=mean("repetition"),
        refusal_share=mean("refusal"),
        malformed_share=mean("malformed"),
        drift=mean("drift"),
        distinct_share=1.0,
    )


def probe(name: str = "sky", *, before: bool = True, after: bool = True) -> ProbeResult:
    """A probe prompt that passed or did not."""
    prompt = [Message(role="user", content=f"What about {name}?")]
    return ProbeResult(name=name, prompt=prompt, before="-", after="-", passed_before=before, passed_after=after)


def report(
    *,
    before: Preferences | None = None,
    after: Preferences | None = None,
    samples_before: Sequence[Sample] | None = None,
    samples_after: Sequence[Sample] | None = None,
    probes: Sequence[ProbeResult] | None = None,
    **given: Any,
) -> Report:
    """A succeeded run that taught what was asked and moved nothing else, but for what is given.

    Samples are one per prompt, before and after in the same order.
    """
    old, new = samples_before or [sample(drift=0.0)] * 12, samples_after or [sample()] * 12
    prompt = [Message(role="user", content=QUESTION)]
    values = {
        "run_id": "1",
        "state": Outcome.SUCCEEDED,
        "started_at": NOW,
        "finished_at": NOW,
        "before": VersionResults(preferences=before or preferences([-1.0] * 12), behaviour=behaviour(old)),
        "after": VersionResults(preferences=after or preferences([1.0] * 12), behaviour=behaviour(new)),
        "samples": [
            PromptSamples(prompt_id=str(place), prompt=prompt, before=[one], after=[two])
            for place, (one, two) in enumerate(zip(old, new, strict=True))
        ],
        "probes": [probe()] if probes is None else list(probes),
        "train_pairs": 40,
        "held_out_pairs": 12,
        "steps": 20,
    }
    return Report(**{**values, **given})


def watched(step: int, *texts: str, prompt_id: str = "0", question: str = QUESTION) -> dict[str, Any]:
    """An evaluation at which a prompt was asked, as a run keeps it."""
    written = [{"text": text, "tokens": 4, "finished": True, "malformed": False} for text in texts]
    prompt = {"prompt_id": prompt_id, "prompt": [{"role": "user", "content": question}], "samples": written}
    return {"at": NOW.isoformat(), "step": step, "prompts": [prompt]}
