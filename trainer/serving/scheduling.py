"""The one thread that computes: who is let in, and whose turn it is.

Versions take turns, a token each (for every completion of theirs); requests are let in between two turns, first
come first served. The event loop only submits requests, watches them, and cancels those whose client has gone.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from trainer.serving.batch import Batch
from trainer.serving.decoding import Decoding
from trainer.serving.errors import QueueFullError, StoppingError
from trainer.serving.versions import ModelVersion

log = logging.getLogger(__name__)

T = TypeVar("T")


class Scheduler:
    """Computes requests on a thread of its own.

    At most `max_choices` completions are under way at once (a larger request runs alone), at most `max_waiting`
    requests wait behind them.
    """

    def __init__(self, *, max_choices: int, max_waiting: int) -> None:
        self._max_choices = max_choices
        self._max_waiting = max_waiting
        self._waiting: deque[Decoding] = deque()
        self._calls: deque[tuple[Callable[[], Any], int, Future[Any]]] = deque()
        self._batches: dict[ModelVersion, Batch] = {}
        """The versions that have something to do."""
        self._threads = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model-server-compute", daemon=True)

    def start(self) -> None:
        """Start the computing thread."""
        self._thread.start()

    def stop(self) -> None:
        """Fail what is waiting or under way and end the thread; returns once it has ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether requests are being worked on."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, decoding: Decoding) -> None:
        """Queue a request. Raises QueueFullError, or StoppingError; the request has then ended."""
        with self._changed:
            error = self._refusal()
            if error is None:
                self._waiting.append(decoding)
                self._changed.notify()
        if error is not None:
            decoding.end(error)
            raise error

    def cancel(self, decoding: Decoding) -> None:
        """Nobody waits for a request any more: it leaves the queue now, or its batch before the next token."""
        with self._changed:
            decoding.left = True
            if decoding not in self._waiting:
                return
            self._waiting.remove(decoding)
        decoding.end()

    def call(self, work: Callable[[], T], *, threads: int) -> Future[T]:
        """Have something computed between two turns."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopping:
                raise StoppingError
            self._calls.append((work, threads, future))
            self._changed.notify()
        return future

    def _refusal(self) -> QueueFullError | StoppingError | None:
        if self._stopping:
            return StoppingError()
        if len(self._waiting) >= self._max_waiting:
            return QueueFullError(self._max_waiting)
        return None

    # --- The computing thread

    def _run(self) -> None:
        with torch.inference_mode():
            while self._let_in():
                self._compute_calls()
                for version in list(self._batches):
                    self._give_turn(version)
                    # Without this, the thread would hold an unloaded version while it waits for the next request.
                    del version
        self._fail_all()

    def _let_in(self) -> bool:
        """Let in the requests for which there is room, waiting for something to do; False when it is time to stop."""
        with self._changed:
            while not self._stopping:
                under_way = sum(map(len, self._batches.values()))
                while self._waiting and self._fits(self._waiting[0], under_way):
                    decoding = self._waiting.popleft()
                    under_way += decoding.sampling.choices
                    self._batch_of(decoding.version).admit(decoding)
                    del decoding
                if self._batches or self._calls:
                    return True
                self._changed.wait()
        return False

    def _fits(self, decoding: Decoding, under_way: int) -> bool:
        return not under_way or under_way + decoding.sampling.choices <= self._max_choices

    def _batch_of(self, version: ModelVersion) -> Batch:
        if version not in self._batches:
            self._batches[version] = Batch(version)
        return self._batches[version]

    def _give_turn(self, version: ModelVersion) -> None:
        batch = self._batches[version]
        self._use_threads(batch.threads)
        try:
            batch.advance()
        except Exception as error:
            log.exception("The requests of %s failed on the computing thread", version.name)
            batch.fail(error)
            del self._batches[version]
            return
        if not len(batch):
            del self._batches[version]

    def _compute_calls(self) -> None:
        while self._calls:
            work, threads, future = self._calls.popleft()
            self._use_threads(threads)
            try:
                future.set_result(work())
            except Exception as error:
                future.set_exception(error)
            del work, future

    def _use_threads(self, threads: int) -> None:
        # Said on this thread, as each has a setting of its own where torch is built on OpenMP.
        if threads != self._threads:
            torch.set_num_threads(threads)
            self._threads = threads

    def _fail_all(self) -> None:
        for batch in self._batches.values():
            batch.fail(StoppingError())
        for decoding in self._waiting:
            decoding.end(StoppingError())
        for _work, _threads, future in self._calls:
            future.set_exception(StoppingError())
        self._batches.clear()
        self._waiting.clear()
        self._calls.clear()
