"""Annotators and a manager who go on through everything: what fails is sent again with the same key."""

import random
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.accounts.access import SESSION_COOKIE
from tests.faults.installation import LEASE_SECONDS, Installation
from tests.faults.ledger import Deed, Kind, Ledger

FORM = re.compile(r'action="(/assignments/([^/"]+)/(judgment|skip|retraction))".*?</form>', re.DOTALL)
FIELD = re.compile(r'<input type="hidden"\s+name="(\w+)"\s+value="([^"]*)"')
PAUSE_SECONDS = 0.6
AGAIN_SECONDS = 0.25
EPOCHS = "0.6"
VERDICTS = ("1>2", "1=2", "2>1", "1=2", "1=2", "1=2")
"""Mostly ties, which train nothing: runs stay short however much is judged."""


@dataclass
class People:
    """Everybody at work. Leaving the block sends them home after what they are at."""

    place: Installation
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    home_time: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def __enter__(self) -> "People":
        """Start the day."""
        workers = [Annotator(self, user_id, token) for user_id, token in self.place.tokens.items()]
        self.threads = [threading.Thread(target=self._guarded, args=(each.work,)) for each in workers]
        self.threads.append(threading.Thread(target=self._guarded, args=(Manager(self).work,)))
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Everybody finishes what they are at and goes home."""
        self.home_time.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "somebody never got an answer"

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.troubles.append(f"{type(error).__name__}: {error}")
            raise


def browser(place: Installation, token: str) -> httpx.Client:
    """Somebody signed in, as htmx asks."""
    return httpx.Client(
        base_url=place.palate.address,
        cookies={SESSION_COOKIE: token},
        headers={"HX-Request": "true"},
        timeout=15,
        trust_env=False,
    )


class Annotator:
    """Judges, skips, takes back, sends twice and walks away, as people do; mostly judges."""

    def __init__(self, people: People, user_id: int, token: str) -> None:
        self.people = people
        self.user_id = user_id
        self.client = browser(people.place, token)
        self.rng = random.Random(people.seed * 1000 + user_id)
        self.skipped: set[str] = set()

    def work(self) -> None:
        """Until it is time to go home."""
        panel = ""
        while not self.people.home_time.is_set():
            forms = {found[3]: found for found in FORM.finditer(panel)}
            if "judgment" not in forms:
                self.people.home_time.wait(0.5)
                panel = self._open()
                continue
            panel = self._act(forms)
            self.people.home_time.wait(self.rng.expovariate(1 / PAUSE_SECONDS))

    def _act(self, forms: dict[str, re.Match[str]]) -> str:
        chance = self.rng.random()
        if chance < 0.05 and "retraction" in forms:
            was_skip = forms["retraction"][2] in self.skipped
            self.skipped.discard(forms["retraction"][2])
            return self._do("unskipped" if was_skip else "retracted", forms["retraction"])
        if chance < 0.08:
            self.skipped.add(forms["skip"][2])
            return self._do("skipped", forms["skip"])
        if chance < 0.09:
            self.people.home_time.wait(1.5 * LEASE_SECONDS)  # comes back to a page whose lease has run out
        return self._do("judged", forms["judgment"], ranking=self.rng.choice(VERDICTS))

    def _do(self, kind: Kind, form: re.Match[str], ranking: str | None = None) -> str:
        fields = dict(FIELD.findall(form[0]))
        if ranking is not None:
            fields["ranking"] = ranking
        key = uuid.UUID(fields["key"]) if kind in {"judged", "retracted"} else None
        deed = Deed(kind, self.user_id, uuid.UUID(form[2]), key, ranking)
        panel = self._send(deed, form[1], fields)
        if self.rng.random() < 0.1 and key is not None:
            panel = self._send(deed, form[1], fields, again=True)
        return panel

    def _send(self, deed: Deed, url: str, fields: dict[str, str], *, again: bool = False) -> str:
        while True:
            response = self._try("POST", url, fields)
            if response is None or response.status_code >= 500:
                time.sleep(AGAIN_SECONDS)
            elif response.status_code >= 400:
                self.people.ledger.refuse(deed, response.status_code, response.text)
                return ""
            else:
                if not again:
                    self.people.ledger.acknowledge(deed)
                return response.text

    def _open(self) -> str:
        while not self.people.home_time.is_set():
            response = self._try("GET", f"/campaigns/{self.people.place.campaign_id}/judge")
            if response is not None and response.is_success:
                return response.text
            time.sleep(AGAIN_SECONDS)
        return ""

    def _try(self, method: str, url: str, fields: dict[str, str] | None = None) -> httpx.Response | None:
        self.people.ledger.count_try()
        try:
            return self.client.request(method, url, data=fields)
        except httpx.HTTPError:
            return None


class Manager:
    """Trains, overrides the gate where it refuses, rolls back and freezes snapshots, round and round."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.client = browser(people.place, people.place.manager_token)
        self.rounds = 0

    def work(self) -> None:
        """Until it is time to go home."""
        place = self.people.place
        while not self.people.home_time.is_set():
            self.rounds += 1
            self._press(f"/models/{place.line_id}", f"/models/{place.line_id}/runs", epochs=EPOCHS, seed=self.rounds)
            self._wait_for_runs()
            self._press(f"/models/{place.line_id}", f"/campaigns/{place.campaign_id}/snapshots", name="")
            if self.rounds % 2 == 0:
                self._press(f"/models/{place.line_id}", f"/models/{place.line_id}/rollback")

    def _wait_for_runs(self) -> None:
        while not self.people.home_time.wait(0.5):
            try:
                with self.people.place.sessions() as session:
                    last = session.execute(
                        text("SELECT id, state, gate FROM runs ORDER BY id DESC LIMIT 1")
                    ).one_or_none()
            except DBAPIError:
                continue
            if last is None:
                return
            if last.state in {"succeeded", "failed", "cancelled"}:
                if any(check.get("blocks") for check in last.gate or []):
                    reason = "Overridden to see a deployment under faults."
                    self._press(f"/runs/{last.id}", f"/runs/{last.id}/override", reason=reason)
                return

    def _press(self, page: str, url: str, **fields: object) -> None:
        """Press a button; try for a while, and let it be where it cannot be reached or makes no sense just now."""
        for _ in range(60):
            if self.people.home_time.is_set():
                return
            try:
                shown = self.client.get(page, headers={"HX-Request": "false"})
                token = re.search(r'name="csrf_token" value="([^"]+)"', shown.text)
                if token is not None:
                    answer = self.client.post(
                        url, data={"csrf_token": token[1], **fields}, headers={"HX-Request": "false"}
                    )
                    if answer.status_code < 500:
                        return
            except httpx.HTTPError:
                pass
            time.sleep(2 * AGAIN_SECONDS)
