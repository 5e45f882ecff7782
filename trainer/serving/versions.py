"""What is loaded, what each alias points at, and how much memory is left.

A request leases the version that its name stands for at that moment, in one step with looking the name
up; moving an alias or unloading a version changes what later requests get and nothing else. A version
that has been unloaded leaves memory when its last lease is returned.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.contract.server import LoadedVersion, ServerState
from trainer.serving.errors import ModelMemoryError, ModelNotFoundError, NameTakenError
from trainer.serving.reading import Reader
from trainer.serving.text import SharedTokenizer
from trainer.serving.weights import Weights

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ModelVersion:
    """One version in memory. `bytes` are those of its own weights and buffers; `loaded_at` is Unix time."""

    name: str
    path: str
    sha256: str
    bytes: int
    model: Any
    tokenizer: SharedTokenizer
    reader: type[Reader]
    """How it reads tokens."""
    end_ids: frozenset[int]
    context_tokens: int
    tokenizer_sha256: str
    chat_template_sha256: str
    weights: Weights | None = None
    """What it stands on, and may share with others: all that it has, or the base of an adapter."""
    threads: int = 1
    """CPU threads to compute it with."""
    loaded_at: int = field(default_factory=lambda: int(time.time()))

    @property
    def needed_bytes(self) -> int:
        """What it needs in memory, shared or not."""
        return self.bytes + (self.weights.bytes if self.weights else 0)


@dataclass(eq=False)
class _Slot:
    """A version as the registry keeps it: its leases, and when it was last asked for (a running number)."""

    version: ModelVersion
    leases: int = 0
    last_used: int = 0


class Lease:
    """A request's hold on its version; give it back exactly once."""

    def __init__(self, version: ModelVersion, give_back: Callable[[], None]) -> None:
        self.version = version
        self._give_back = give_back

    def give_back(self) -> None:
        """End the hold; the version may leave memory with it."""
        self._give_back()


class Registry:
    """The loaded versions and aliases; every method is one atomic step and may be called from any thread."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._slots: dict[str, _Slot] = {}
        self._retired: set[_Slot] = set()
        """Unloaded, and still needed by requests under way."""
        self._aliases: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self.set_aside_bytes = 0
        """Taken by what is no version."""
        self._lock = threading.Lock()
        self._uses = itertools.count(1)

    # --- Routing

    def lease(self, name: str) -> Lease:
        """Hold the version called `name`, or that the alias `name` points at. Raises ModelNotFoundError."""
        with self._lock:
            slot = self._slots.get(self._aliases.get(name, name))
            if slot is None:
                raise self._unknown(name)
            slot.leases += 1
            slot.last_used = next(self._uses)
        return Lease(slot.version, lambda: self._give_back(slot))

    def _unknown(self, name: str) -> ModelNotFoundError:
        known = ", ".join([*self._aliases, *self._slots]) or "none yet"
        return ModelNotFoundError(f"The model '{name}' is not loaded here. Loaded are: {known}.", parameter="model")

    def _give_back(self, slot: _Slot) -> None:
        with self._lock:
            slot.leases -= 1
            if not slot.leases:
                self._retired.discard(slot)

    # --- Versions

    def find(self, name: str) -> ModelVersion | None:
        """The version of that very name (aliases aside), or None."""
        with self._lock:
            slot = self._slots.get(name)
            return slot.version if slot else None

    def check_name_free(self, name: str) -> None:
        """Raise NameTakenError where `name` is an alias."""
        with self._lock:
            if name in self._aliases:
                raise NameTakenError(f"'{name}' is an alias here; a version needs another name.", parameter="name")

    def add(self, version: ModelVersion) -> None:
        """Route requests to a loaded version from now on."""
        with self._lock:
            self._slots[version.name] = _Slot(version, last_used=next(self._uses))
            self._refused.pop(version.name, None)

    def note_refusal(self, name: str, reason: str) -> None:
        """Remember why a version was not loaded, until it is."""
        with self._lock:
            self._refused[name] = reason

    def unload(self, name: str) -> None:
        """Stop routing to a version; its memory is free once its requests have ended.

        Raises ModelNotFoundError, and NameTakenError while an alias points at it.
        """
        with self._lock:
            if name not in self._slots:
                raise self._unknown(name)
            aliases = [alias for alias, version in self._aliases.items() if version == name]
            if aliases:
                raise NameTakenError(
                    f"'{name}' cannot be unloaded: {', '.join(aliases)} points at it. Point the alias elsewhere first.",
                    parameter="name",
                    code="version_in_use",
                )
            self._retire(name)

    def find_weights(self, sha256: str) -> Weights | None:
        """The weights with that hash, if some version in memory stands on them."""
        with self._lock:
            held = (slot.version.weights for slot in self._all_slots())
            return next((weights for weights in held if weights and weights.sha256 == sha256), None)

    def make_room(self, name: str, needed_bytes: int, *, on: Weights | None = None) -> None:
        """See to it that a version of `needed_bytes` fits, dropping idle versions without an alias if need be.

        It may stand `on` weights that are in memory already, which stay. The least recently used go first, and none
        where that would not be enough. Raises ModelMemoryError.
        """
        with self._lock:
            kept = self._all_slots()
            room = self._max_bytes - self.set_aside_bytes - needed_bytes
            dropped: list[str] = []
            for idle in self._idle_without_alias():
                if _bytes_of(kept, on) <= room:
                    break
                dropped.append(idle.version.name)
                kept.remove(idle)
            if _bytes_of(kept, on) > room:
                raise self._no_room(name, needed_bytes)
            for dropped_name in dropped:
                self._retire(dropped_name)
                log.info("Dropped %s to make room for %s", dropped_name, name)

    def set_aside(self, count: int) -> None:
        """Count so many bytes as taken by what is no version: a reward model."""
        with self._lock:
            self.set_aside_bytes = count

    def _no_room(self, name: str, needed_bytes: int) -> ModelMemoryError:
        held = [self._held_by(slot) for slot in [*self._slots.values(), *self._retired]]
        held += [f"a reward model {_megabytes(self.set_aside_bytes)}"] if self.set_aside_bytes else []
        return ModelMemoryError(
            f"'{name}' needs {_megabytes(needed_bytes)}, and of {_megabytes(self._max_bytes)} for models "
            f"{_megabytes(self._used_bytes())} are taken: {'; '.join(held) or 'nothing'}. Point an alias elsewhere, "
            "wait for requests to end, or start the model server with a larger --max-model-bytes.",
            parameter="path",
        )

    def _held_by(self, slot: _Slot) -> str:
        """A version, its size, and what keeps it in memory."""
        name = slot.version.name
        held = [alias for alias, version in self._aliases.items() if version == name and slot not in self._retired]
        held += [f"{slot.leases} under way"] if slot.leases else []
        return f"{name} {_megabytes(slot.version.needed_bytes)} ({', '.join(held) or 'idle'})"

    def _idle_without_alias(self) -> list[_Slot]:
        needed = set(self._aliases.values())
        idle = [slot for name, slot in self._slots.items() if name not in needed and not slot.leases]
        return sorted(idle, key=lambda slot: slot.last_used)

    def _used_bytes(self) -> int:
        return self.set_aside_bytes + _bytes_of(self._all_slots(), None)

    def _all_slots(self) -> list[_Slot]:
        return [*self._slots.values(), *self._retired]

    def _retire(self, name: str) -> None:
        slot = self._slots.pop(name)
        if slot.leases:
            self._retired.add(slot)

    # --- Aliases

    def point(self, alias: str, version: str) -> None:
        """Let `alias` stand for `version` from the next request on. Raises ModelNotFoundError, NameTakenError."""
        with self._lock:
            if alias in self._slots:
                raise NameTakenError(f"'{alias}' is a version here; an alias needs another name.", parameter="alias")
            if version not in self._slots:
                raise self._unknown(version)
            self._aliases[alias] = version

    def remove_alias(self, alias: str) -> None:
        """Forget an alias. Raises ModelNotFoundError where there is none of that name."""
        with self._lock:
            if self._aliases.pop(alias, None) is None:
                raise ModelNotFoundError(f"There is no alias '{alias}'.", parameter="alias")

    # --- Looking

    def versions(self) -> list[ModelVersion]:
        """The versions that requests can name, in the order in which they were loaded."""
        with self._lock:
            return [slot.version for slot in self._slots.values()]

    def aliases(self) -> dict[str, str]:
        """What each alias points at."""
        with self._lock:
            return dict(self._aliases)

    def state(self) -> ServerState:
        """Versions and aliases as of one moment."""
        with self._lock:
            return ServerState(
                versions=[_described(slot) for slot in self._slots.values()],
                aliases=dict(self._aliases),
                refused=dict(self._refused),
            )


def _described(slot: _Slot) -> LoadedVersion:
    version = slot.version
    return LoadedVersion(
        name=version.name,
        path=version.path,
        sha256=version.sha256,
        bytes=version.needed_bytes,
        requests_under_way=slot.leases,
        chat_template_sha256=version.chat_template_sha256,
        tokenizer_sha256=version.tokenizer_sha256,
        context_tokens=version.context_tokens,
    )


def _bytes_of(slots: Sequence[_Slot], more: Weights | None) -> int:
    """What versions take in memory together, weights that several share counted once."""
    weights = {slot.version.weights for slot in slots} | {more}
    return sum(slot.version.bytes for slot in slots) + sum(each.bytes for each in weights if each)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
