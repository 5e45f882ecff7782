"""Who follows what in this web process. All of it happens on the event loop, but for `announce_soon`."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import TooManyRequests
from app.live.announcing import Kind, topic
from app.wording import gettext as _

MOST_READERS = 40
"""Pages that one person may have open per web process; browsers let go of those in the background."""


class Reader:
    """One open page: the topics that it follows, and which of them it has yet to be told of.

    A page that is slow to listen is told once of a topic that changed many times: there is nothing to pile up.
    """

    def __init__(self, *, person_id: int, topics: list[str]) -> None:
        self.person_id = person_id
        self.topics = topics
        self.has_ended = False
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    def tell(self, changed: str) -> None:
        """Have the page told of a topic."""
        self._changed.add(changed)
        self._woken.set()

    def tell_all(self) -> None:
        """Have the page look at everything anew: something may have been missed."""
        self._changed.update(self.topics)
        self._woken.set()

    def end(self) -> None:
        """Send the page away; it comes back to have its rights looked at again."""
        self.has_ended = True
        self._woken.set()

    async def news(self, *, within_seconds: float) -> list[str]:
        """The topics that changed since this was last asked; waits for some, empty after `within_seconds`."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._woken.wait()
        except TimeoutError:
            return []
        self._woken.clear()
        news, self._changed = sorted(self._changed), set()
        return news


class Hub:
    """The readers of one web process. `is_open`: somebody listens to the database or tries to, so there are events."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_listening = False
        """Whether notifications reach us at this moment."""
        self._readers: defaultdict[str, set[Reader]] = defaultdict(set)
        self._by_person: Counter[int] = Counter()
        self._soon: set[str] = set()
        self._next: set[str] = set()

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[None]:
        """Tell a reader what it follows while it is here. What it missed before, it is told to look at anew."""
        followed = [*reader.topics, topic("person", reader.person_id)]
        self._by_person[reader.person_id] += 1
        for name in followed:
            self._readers[name].add(reader)
        reader.tell_all()
        if not self.is_open:
            reader.end()
        try:
            yield
        finally:
            self._by_person[reader.person_id] -= 1
            if not self._by_person[reader.person_id]:
                del self._by_person[reader.person_id]
            for name in followed:
                self._readers[name].discard(reader)
                if not self._readers[name]:
                    del self._readers[name]

    def require_room(self, *, person_id: int) -> None:
        """Raise TooManyRequests where a person has more pages open than anybody looks at."""
        if self._by_person[person_id] >= MOST_READERS:
            raise TooManyRequests(_("You have too many pages open that follow what happens. Close some of them."))

    def tell(self, name: str) -> None:
        """A topic changed. Where it is a person, what they may see may have changed too: their pages ask anew."""
        for reader in tuple(self._readers.get(name, ())):
            if name == topic("person", reader.person_id):
                reader.end()
            else:
                reader.tell(name)

    def tell_everybody(self) -> None:
        """Notifications may have been missed."""
        for reader in self._everybody():
            reader.tell_all()

    def close(self) -> None:
        """Send everybody away and let nobody in: the process stops."""
        self.is_open = False
        for reader in self._everybody():
            reader.end()

    def announce_soon(self, kind: Kind, subject_id: int) -> None:
        """Announce after some seconds, once for however many times this is called, from any thread, at no cost.

        For what happens often: by then the caller's transaction has committed.
        """
        self._soon.add(topic(kind, subject_id))

    def due(self) -> set[str]:
        """What was to be announced soon when this was last asked. Whoever still holds that set adds to none of it."""
        due, self._next, self._soon = self._next, self._soon, set()
        return due

    def _everybody(self) -> set[Reader]:
        return set().union(*self._readers.values())
