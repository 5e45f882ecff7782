"""Sides of the held-out line: a prompt goes where what it nearly repeats already is, or else where its hash says.

Existing prompts never change sides. A new one that is nearly the same as prompts of both sides goes to neither: in
training it would give away a held-out prompt, and held out it would measure what was trained on. Prompts of every
campaign count, for several campaigns may train one line.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.generation.near_duplicates import ALIKE, Shingles, bands, jaccard, shingles
from app.generation.normalising import split_of
from app.generation.prompt_lines import PromptDraft

MOST_PER_BAND = 8
"""Prompts that are remembered and looked at per band: of many that are alike a few stand for all."""


@dataclass(frozen=True)
class Placement:
    """Where a draft goes. `near_sha256` is the hash of the prompt that it follows; `new_bands` are to be remembered."""

    split: str | None
    near_sha256: str | None
    new_bands: list[int]


@dataclass(frozen=True)
class _Known:
    """A prompt that has its side."""

    text_sha256: str
    split: str | None
    shingles: Shingles


@dataclass
class _Neighbourhood:
    """Prompts by band: those in the database, and those of the batch that came before."""

    by_band: dict[int, list[_Known]] = field(default_factory=lambda: defaultdict(list))

    def add(self, known: _Known, its_bands: Iterable[int]) -> list[int]:
        """Remember a prompt in those of its bands that are not full; returns these."""
        roomy = [band for band in set(its_bands) if len(self.by_band[band]) < MOST_PER_BAND]
        for band in roomy:
            self.by_band[band].append(known)
        return sorted(roomy)

    def near(self, to: Shingles, its_bands: Iterable[int]) -> list[_Known]:
        """Near-duplicates with a side, the nearest first; among equals the one that came first."""
        candidates = {known.text_sha256: known for band in its_bands for known in self.by_band.get(band, ())}
        alike = [(jaccard(to, known.shingles), known) for known in candidates.values() if known.split is not None]
        return [known for likeness, known in sorted(alike, key=lambda each: -each[0]) if likeness >= ALIKE]


def place(session: Session, drafts: Sequence[PromptDraft]) -> list[Placement]:
    """The side of each of these prompts, in their order. Must run under the lock on inserting prompts."""
    hashes = [shingles(draft.messages) for draft in drafts]
    its_bands = [bands(each) for each in hashes]
    neighbourhood = _neighbourhood(session, {band for each in its_bands for band in each})
    placements = []
    for draft, own, own_bands in zip(drafts, hashes, its_bands, strict=True):
        near = neighbourhood.near(own, own_bands)
        sides = {known.split for known in near}
        split = None if len(sides) > 1 else sides.pop() if sides else split_of(draft.text_sha256)
        roomy = neighbourhood.add(_Known(draft.text_sha256, split, own), own_bands)
        placements.append(Placement(split, near[0].text_sha256 if near else None, roomy))
    return placements


# Two statements, each of which can only be run one way. In one, statistics from before an import had the planner
# look up thousands of bands again for every prompt there is.
_IN_BANDS = text(
    """
    SELECT remembered.prompt_id, array_agg(wanted.band) AS bands
    FROM unnest(CAST(:bands AS bigint[])) AS wanted(band)
    CROSS JOIN LATERAL (SELECT prompt_id FROM prompt_bands WHERE band = wanted.band ORDER BY prompt_id
                        LIMIT :most) AS remembered
    GROUP BY remembered.prompt_id ORDER BY remembered.prompt_id
    """
)
_PROMPTS = text("SELECT id, text_sha256, split, messages FROM prompts WHERE id = ANY(:ids) ORDER BY id")


def _neighbourhood(session: Session, wanted: set[int]) -> _Neighbourhood:
    neighbourhood = _Neighbourhood()
    session.execute(text("SET LOCAL enable_seqscan = off"))
    bands_of = {
        row.prompt_id: row.bands for row in session.execute(_IN_BANDS, {"bands": list(wanted), "most": MOST_PER_BAND})
    }
    prompts = session.execute(_PROMPTS, {"ids": list(bands_of)}).all()
    session.execute(text("SET LOCAL enable_seqscan = on"))
    for prompt in prompts:
        neighbourhood.add(_Known(prompt.text_sha256, prompt.split, shingles(prompt.messages)), bands_of[prompt.id])
    return neighbourhood


_REMEMBER = text(
    """
    INSERT INTO prompt_bands (band, prompt_id)
    SELECT * FROM unnest(CAST(:bands AS bigint[]), CAST(:prompt_ids AS integer[]))
    """
)


def remember(session: Session, bands_of: dict[int, list[int]]) -> None:
    """Keep the bands of new prompts, by their ids, for those that come later."""
    pairs = sorted((band, prompt_id) for prompt_id, of in bands_of.items() for band in of)
    if pairs:
        session.execute(_REMEMBER, {"bands": [band for band, _ in pairs], "prompt_ids": [at for _, at in pairs]})
