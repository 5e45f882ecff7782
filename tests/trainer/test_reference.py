"""What the reference says is computed once, and kept."""

import pytest
import torch

from tests.trainer.test_loop import pair, policy_scorer
from trainer.reference import Kept, ask_about, keep_distributions


def test_what_is_known_of_completions_costs_no_forward() -> None:
    scorer = policy_scorer()
    asked = []
    scorer.model.register_forward_hook(lambda *_: asked.append(1))
    sequences = [sequence for number in range(4) for sequence in pair(number).tree.sequences]
    known, added = ask_about(scorer, sequences[:6], table={}, kept=Kept(), on_progress=lambda share: None)
    assert asked
    assert len(added) == 6
    asked.clear()
    again, nothing = ask_about(scorer, sequences[:6], table=added, kept=Kept(), on_progress=lambda share: None)
    assert (asked, nothing) == ([], {})
    assert torch.equal(again.logps(sequences[:6]), known.logps(sequences[:6]))
    _, rest = ask_about(scorer, sequences, table=added, kept=Kept(), on_progress=lambda share: None)
    assert len(rest) == 2


def test_the_drift_term_reads_preferred_completions_anew_in_every_run() -> None:
    scorer = policy_scorer()
    preferred = [pair(number).tree.sequences[0] for number in range(4)]
    kept = keep_distributions(scorer, preferred, on_progress=lambda share: None)
    read = []
    scorer.model.register_forward_hook(lambda *_: read.append(1))
    reference, added = ask_about(scorer, preferred, table={}, kept=kept, on_progress=lambda share: None)
    assert read == [], "their log-probabilities are among what is kept"
    assert len(added) == 4
    assert reference.logps(preferred).tolist() == pytest.approx(policy_scorer().sequence_logps(preferred), rel=1e-6)
