"""The one thread that computes, and whose turn it is.

Requests take turns of a few tokens each, so a short one does not wait for a long one to end. The event
loop only submits tasks and awaits their futures. A task whose future is cancelled (its client has gone)
is dropped at its next turn, started or not.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from trainer.serving.errors import OverloadedError, ServingError

log = logging.getLogger(__name__)

STOPPING = "The model server is stopping. Try again in a moment."


class Task(Protocol):
    """Work that is done in turns on the computing thread."""

    @property
    def choices(self) -> int:
        """Rows that the task adds to what is decoded at the same time."""

    @property
    def threads(self) -> int:
        """CPU threads that its matrix products are spread over."""

    def advance(self) -> bool:
        """Do one turn's work; True when there is none left."""

    def result(self) -> Any:
        """What the task was for; asked once, after the last turn."""

    def close(self) -> None:
        """Let go of what the task holds; called once, however it ended."""


@dataclass
class _Entry:
    task: Task
    future: Future[Any]


class Scheduler:
    """Runs tasks in turns on a thread of its own.

    At most `max_choices` rows are under way at once (a larger task runs alone), at most `max_waiting` tasks
    wait behind them, first come first served.
    """

    def __init__(self, *, max_choices: int, max_waiting: int) -> None:
        self._threads = 0
        self._max_choices = max_choices
        self._max_waiting = max_waiting
        self._waiting: deque[_Entry] = deque()
        self._active: deque[_Entry] = deque()
        self._choices_under_way = 0
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
        """Whether tasks are being worked on."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, task: Task) -> Future[Any]:
        """Queue a task; its future holds `task.result()`, or what was raised, and may be cancelled at any time.

        Raises OverloadedError where the queue is full or the server is stopping; the task is then closed.
        """
        entry = _Entry(task, Future())
        with self._changed:
            refused = self._refusal()
            if refused is None:
                self._waiting.append(entry)
                self._changed.notify()
        if refused is not None:
            task.close()
            raise OverloadedError(refused)
        return entry.future

    def _refusal(self) -> str | None:
        if self._stopping:
            return STOPPING
        if len(self._waiting) >= self._max_waiting:
            return f"{self._max_waiting} requests are waiting already. Try again in a moment."
        return None

    def _run(self) -> None:
        with torch.inference_mode():
            while (entry := self._next()) is not None:
                self._give_turn(entry)
                # Without this, the thread would hold the last request's model while it waits for the next.
                del entry
        self._fail_all()

    def _next(self) -> _Entry | None:
        """The task whose turn it is, waiting for one if need be; None when the server is stopping."""
        with self._changed:
            while not self._stopping:
                self._admit()
                if self._active:
                    return self._active.popleft()
                self._changed.wait()
        return None

    def _admit(self) -> None:
        while self._waiting:
            choices = self._waiting[0].task.choices
            if self._choices_under_way and self._choices_under_way + choices > self._max_choices:
                return
            self._choices_under_way += choices
            self._active.append(self._waiting.popleft())

    def _give_turn(self, entry: _Entry) -> None:
        try:
            self._use_threads(entry.task.threads)
            if not entry.future.cancelled() and not entry.task.advance():
                with self._changed:
                    self._active.append(entry)
                return
            self._settle(entry, None)
        except Exception as error:
            if not isinstance(error, ServingError):
                log.exception("A request failed on the computing thread")
            self._settle(entry, error)

    def _use_threads(self, threads: int) -> None:
        # Said on this thread, as each has a setting of its own where torch is built on OpenMP.
        if threads != self._threads:
            torch.set_num_threads(threads)
            self._threads = threads

    def _settle(self, entry: _Entry, error: Exception | None) -> None:
        """Close a task that is done and hand over what came of it."""
        result = None if error or entry.future.cancelled() else entry.task.result()
        with self._changed:
            self._choices_under_way -= entry.task.choices
        entry.task.close()
        if not entry.future.set_running_or_notify_cancel():
            return
        if error:
            entry.future.set_exception(error)
        else:
            entry.future.set_result(result)

    def _fail_all(self) -> None:
        for entry in [*self._active, *self._waiting]:
            entry.task.close()
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(OverloadedError(STOPPING))
        self._active.clear()
        self._waiting.clear()
