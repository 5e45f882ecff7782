"""Asking another server over the OpenAI API: patiently, never more at once than was agreed, and believing little.

Whatever it answers is checked before anything is made of it; its words reach people as text, and are cut.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.deployments.endpoint_answers import EndpointRefused, cut, read_object, refuse_errors
from app.deployments.model_server import ModelServerDown, ModelServerRefused
from app.deployments.models import Endpoint
from app.outgoing import CONNECT_SECONDS, AddressRefused, AnswerTooLarge, outgoing, read_bounded
from app.settings import Settings
from app.wording import gettext as _

MOST_BYTES = 16 * 2**20
"""Of one answer: sixteen completions of 4,096 tokens are a twentieth of it."""
WRITING_SECONDS = 300.0
TRIES = 4
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0
"""A server that wants to be left alone for longer is left alone by the queue, which says so, not by a sleeping job."""
CHECK_SECONDS = 20.0

log = logging.getLogger(__name__)


# --- No more at once than was agreed


@dataclass
class _Gate:
    """How many requests of this process may be under way at an endpoint, and until when it is left alone."""

    places: int
    semaphore: threading.BoundedSemaphore
    closed_until: float = 0.0


@dataclass
class _Gates:
    """The gates of this process, by version; a changed number of places makes a new one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_version: dict[int, _Gate] = field(default_factory=dict)

    def of(self, endpoint: Endpoint) -> _Gate:
        """The gate of an endpoint."""
        with self.lock:
            gate = self.by_version.get(endpoint.version_id)
            if gate is None or gate.places != endpoint.concurrency:
                gate = _Gate(endpoint.concurrency, threading.BoundedSemaphore(endpoint.concurrency))
                self.by_version[endpoint.version_id] = gate
            return gate


_gates = _Gates()


@contextmanager
def _let_in(gate: _Gate, *, until: float) -> Iterator[None]:
    """One of the gate's places, once there is one."""
    if not gate.semaphore.acquire(timeout=max(0.0, until - time.monotonic())):
        raise ModelServerDown(_("So many requests are under way there that this one found no place in time."))
    try:
        yield
    finally:
        gate.semaphore.release()


# --- One question


def key_headers(settings: Settings, endpoint: Endpoint) -> dict[str, str]:
    """The header with the endpoint's key. Raises EndpointRefused where the environment does not hold it."""
    if not endpoint.key_variable:
        return {}
    key = settings.endpoint_keys.get(endpoint.key_variable)
    if key is None or not key.get_secret_value():
        raise EndpointRefused(
            _(
                "%(variable)s is not set. Put the key into the environment of web and worker, and start them again.",
                variable=endpoint.key_variable,
            )
        )
    try:
        key.get_secret_value().encode("ascii")
    except UnicodeEncodeError as error:
        raise EndpointRefused(
            _("%(variable)s holds characters that no key has.", variable=endpoint.key_variable)
        ) from error
    return {"Authorization": f"Bearer {key.get_secret_value().strip()}"}


def ask(
    settings: Settings,
    endpoint: Endpoint,
    body: dict[str, Any],
    *,
    seconds: float = WRITING_SECONDS,
    tries: int = TRIES,
) -> dict[str, Any]:
    """The answer to one chat completion request, as a JSON object, after as many tries as it is worth.

    Raises ModelServerDown where the server is away, too busy or too slow; RequestRefused for a request that it takes
    amiss; EndpointRefused for anything else that another try would not mend; AddressRefused.
    """
    gate, until = _gates.of(endpoint), time.monotonic() + seconds
    for attempt in range(1, tries + 1):
        _wait_for(gate, until=until)
        try:
            with _let_in(gate, until=until):
                return _asked_once(settings, endpoint, body, until=until)
        except ModelServerDown as error:
            wait = max(error.retry_after_seconds, FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311
            if error.retry_after_seconds:
                gate.closed_until = max(gate.closed_until, time.monotonic() + error.retry_after_seconds)
            if attempt == tries or wait > LONGEST_WAIT_SECONDS or time.monotonic() + wait > until:
                raise
            log.info("Asking %s again in %.1f s: %s", endpoint.base_url, wait, error.message)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _wait_for(gate: _Gate, *, until: float) -> None:
    """Leave a server alone for as long as it asked, whichever job it was that it said so to."""
    left = gate.closed_until - time.monotonic()
    if left > LONGEST_WAIT_SECONDS or time.monotonic() + left > until:
        raise ModelServerDown(
            _("That server wants to be left alone for %(seconds)s seconds.", seconds=round(left)),
            retry_after_seconds=left,
        )
    if left > 0:
        time.sleep(left)


def _asked_once(settings: Settings, endpoint: Endpoint, body: dict[str, Any], *, until: float) -> dict[str, Any]:
    headers = key_headers(settings, endpoint)
    url = f"{endpoint.base_url}/chat/completions"
    left = max(1.0, until - time.monotonic())
    timeout = httpx.Timeout(left, connect=CONNECT_SECONDS)
    try:
        with (
            outgoing(listed=settings.endpoint_origins) as client,
            client.stream("POST", url, json=body, headers=headers, timeout=timeout) as response,
        ):
            content = read_bounded(response, most_bytes=MOST_BYTES, until=until)
    except AddressRefused as error:
        raise EndpointRefused(error.message) from error
    except AnswerTooLarge as error:
        raise EndpointRefused(_("Its answer was not read: %(why)s", why=error)) from error
    except httpx.TimeoutException as error:
        raise ModelServerDown(_("%(url)s did not answer in time.", url=endpoint.base_url)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = cut(str(error)) or type(error).__name__
        raise ModelServerDown(_("%(url)s does not answer: %(why)s", url=endpoint.base_url, why=why)) from error
    refuse_errors(response, content)
    return read_object(content)


# --- The check button


def checked(settings: Settings, endpoint: Endpoint) -> tuple[bool, str]:
    """Ask the server for a word, once; whether that went well, and in words what it answered."""
    begun = time.monotonic()
    body = {"model": endpoint.model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
    try:
        answer = ask(settings, endpoint, body, seconds=CHECK_SECONDS, tries=1)
        text, by = _first_text(answer), cut(str(answer.get("model") or endpoint.model))
    except (ModelServerDown, ModelServerRefused) as error:
        return False, error.message
    seconds = f"{time.monotonic() - begun:.1f}"
    return True, _("In %(seconds)s s, %(by)s wrote: “%(text)s”", seconds=seconds, by=by, text=cut(text))


def _first_text(answer: dict[str, Any]) -> str:
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise EndpointRefused(_("It answered, but with no completion.")) from error
