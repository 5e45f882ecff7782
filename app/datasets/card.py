"""The dataset card of a snapshot: what it holds, how it came about, and how to load it."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.guidance import Guidance, guidance
from app.campaigns.models import Campaign, CampaignRevision
from trainer.contract.snapshot import (
    DEMONSTRATIONS_FILE,
    JUDGMENTS_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    SnapshotManifest,
)


@dataclass(frozen=True)
class DescribedCampaign:
    """What annotators were told: the number of every revision, with its guidelines and examples."""

    name: str
    revisions: list[tuple[int, Guidance]]


def described_campaigns(session: Session, campaigns: list[Campaign]) -> list[DescribedCampaign]:
    """The campaigns as the card tells of them."""
    described = []
    for campaign in campaigns:
        query = (
            select(CampaignRevision.number, CampaignRevision.guidelines, CampaignRevision.examples)
            .where(CampaignRevision.campaign_id == campaign.id)
            .order_by(CampaignRevision.number)
        )
        revisions = [(number, guidance(told, examples)) for number, told, examples in session.execute(query)]
        described.append(DescribedCampaign(name=campaign.name, revisions=revisions))
    return described


def dataset_card(manifest: SnapshotManifest, campaigns: list[DescribedCampaign]) -> str:
    """The card as Markdown, with the header that Hugging Face's tools read."""
    parts = [
        _header(manifest),
        f"# {_one_line(manifest.name)}",
        "Human judgments on completions of language models, frozen by Palate as of "
        f"{manifest.as_of:%Y-%m-%d %H:%M} UTC.\n",
        _contents(manifest),
        _policy(manifest),
        _LOADING,
        _people(manifest),
        _campaigns(campaigns),
        _LICENCE,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _header(manifest: SnapshotManifest) -> str:
    """What Hugging Face's tools read. Files without rows are left out: `datasets` cannot load any such file."""
    rows = {name: entry.rows or 0 for name, entry in manifest.files.items()}
    sides = [("train", RANKINGS_TRAIN_FILE), ("test", RANKINGS_EVAL_FILE)]
    parts = {
        "rankings": [(split, name) for split, name in sides if rows[name]],
        "judgments": [("train", JUDGMENTS_FILE)] if rows[JUDGMENTS_FILE] else [],
        "demonstrations": [("train", DEMONSTRATIONS_FILE)] if rows[DEMONSTRATIONS_FILE] else [],
    }
    lines = ["---", "license: other", "pretty_name: Palate snapshot", "tags: [preference, rlhf, dpo]", "configs:"]
    for config, files in parts.items():
        if files:
            lines += [f"- config_name: {config}", "  data_files:"]
            lines += [f"  - split: {split}\n    path: {name}" for split, name in files]
    return "\n".join([*lines, "---"])


def _contents(manifest: SnapshotManifest) -> str:
    counts = manifest.counts
    share = manifest.on_policy_share
    on_policy = "not known" if share is None else f"{share:.0%}"
    return f"""## Contents

| what | how many |
|---|---|
| judgments | {counts["judgments"]:,} |
| comparisons judged | {counts["comparisons"]:,} |
| prompts | {counts["prompts"]:,} |
| annotators | {counts["annotators"]:,} |
| rankings to train on / held out | {counts["rankings_train"]:,} / {counts["rankings_eval"]:,} |
| preference pairs to train on / held out | {counts["pairs_train"]:,} / {counts["pairs_eval"]:,} |
| ties | {counts["ties"]:,} |
| only "all bad" | {counts["all_bad_only"]:,} |
| demonstrations | {counts["demonstrations"]:,} |
| pairs made of corrections | {counts["corrections"]:,} |
| completions by the version serving when frozen | {on_policy} |

Hash of the canonical rows: `{manifest.rows_sha256}`."""


def _policy(manifest: SnapshotManifest) -> str:
    policy, counts = manifest.policy, manifest.counts
    surplus = "are included" if policy.include_surplus else "were left out"
    rejected = "are included" if policy.include_rejected else "were left out"
    corrections = (
        "are pairs of their own, preferred to what they correct" if policy.corrections_as_chosen else "make no pairs"
    )
    incomplete = "contribute the judgments that they have" if policy.incomplete_comparisons else "were left out"
    return f"""## Policy

- One row per judgment, each with weight 1/R, R being the number of judgments wanted of its comparison.
- Retracted judgments were left out. {counts["surplus"]:,} surplus judgments (given after all wanted ones were in) \
{surplus}.
- {counts["rejected"]:,} judgments that a manager had set aside {rejected}.
- Comparisons still short of their judgments {incomplete}.
- Completions that annotators corrected after their verdict {corrections}; all are in `{DEMONSTRATIONS_FILE}`, \
of which only `split` = `train` is to be trained on.
- A prompt is on one side, train or held out, for ever, decided by a hash of its text. Prompts on neither side \
have near-duplicates on both; their {counts["neither_split"]:,} judgments are only in `{JUDGMENTS_FILE}`.
- Checks on annotators (gold comparisons and repeats; {counts["checks"]:,} judgments) are only in \
`{JUDGMENTS_FILE}`, too."""


_LOADING = """## Loading

```python
from datasets import load_dataset

rankings = load_dataset("parquet", data_files={"train": "rankings.train.parquet", "test": "rankings.eval.parquet"})
judgments = load_dataset("parquet", data_files="judgments.parquet", split="train")
```

A file without rows cannot be loaded by `datasets`; leave it out. A ranking has one rank per completion (1 is best, \
equal ranks tie). Preference pairs for TRL come as a file of their own, `trl-preference.train.jsonl`:

```python
from trl import DPOTrainer

pairs = load_dataset("json", data_files="trl-preference.train.jsonl", split="train")
trainer = DPOTrainer(model="...", train_dataset=pairs)
```"""


def _people(manifest: SnapshotManifest) -> str:
    rationales = (
        "Rationales, which are personal text, are included."
        if manifest.policy.include_rationales
        else "Rationales, which are personal text, are not included."
    )
    return f"""## People

Annotators appear under pseudonyms: a keyed hash (HMAC-SHA256) with a secret of the installation, the same for a \
person in all of its snapshots. Nobody without that secret can tell who is who. {rationales} Prompts and \
completions may be offensive or personal; they are as they were written."""


def _campaigns(campaigns: list[DescribedCampaign]) -> str:
    lines = ["## What annotators were asked"]
    for campaign in campaigns:
        lines.append(f"### {_one_line(campaign.name)}")
        for number, told in campaign.revisions:
            lines.append(f"Guidelines, revision {number}:\n\n{_quoted(told.guidelines.strip() or '(none)')}")
            for place, example in enumerate(told.examples, start=1):
                shown = {"prompt": example.prompt, "good": example.good, "bad": example.bad, "why": example.why}
                lines.append(f"Example {place}, revision {number}:")
                lines += [f"{name}:\n\n{_quoted(text)}" for name, text in shown.items() if text]
    return "\n\n".join(lines)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


_LICENCE = """## Licence

Palate sets none. Prompts, completions and judgments may each carry terms of their own: those of the prompts' source, \
of the model's licence, and of the agreement with the annotators. State the licence here before you share this."""


def _one_line(text: str) -> str:
    return " ".join(text.split())
