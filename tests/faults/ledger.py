"""What annotators were told: the other half of the books, kept outside Palate."""

import threading
import uuid
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["judged", "retracted", "skipped", "unskipped"]


@dataclass(frozen=True)
class Deed:
    """Something an annotator did to an assignment. `ranking` is in shown positions. Skips, and taking
    them back, have no key: they leave no judgment.
    """

    kind: Kind
    annotator_id: int
    assignment_id: uuid.UUID
    key: uuid.UUID | None = None
    ranking: str | None = None


@dataclass
class Ledger:
    """Deeds in the order in which they were acknowledged; several annotators write at once."""

    acknowledged: list[Deed] = field(default_factory=list)
    refused: list[tuple[Deed, int, str]] = field(default_factory=list)
    tries: int = 0
    """Requests sent, the failed ones and those sent twice on purpose included."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, deed: Deed) -> None:
        """Palate has said that it is recorded."""
        with self._lock:
            self.acknowledged.append(deed)

    def refuse(self, deed: Deed, status: int, said: str) -> None:
        """Palate has said that it never will be."""
        with self._lock:
            self.refused.append((deed, status, said[:300]))

    def count_try(self) -> None:
        """Another request went out."""
        with self._lock:
            self.tries += 1

    def so_far(self) -> list[Deed]:
        """A copy of what is acknowledged at this moment."""
        with self._lock:
            return list(self.acknowledged)
