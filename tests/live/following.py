"""`palate web` as its own process, and pages that follow what happens there, as sockets."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.error import URLError

import psutil
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE
from app.accounts.models import User
from app.accounts.service.sign_ins import start_sign_in
from app.clock import utc_now
from app.database import SessionFactory
from app.stack.ports import free_port

EVENT = re.compile(rb"event: (\S+)\ndata:\n\n")


@dataclass
class Web:
    """A web process, and a way into its database."""

    process: subprocess.Popen[bytes]
    port: int
    sessions: SessionFactory

    @property
    def in_memory(self) -> psutil.Process:
        """The process as the system sees it."""
        return psutil.Process(self.process.pid)

    def sign_in(self, session: Session, user: User) -> str:
        """The token of a fresh sign-in; the transaction is the caller's."""
        return start_sign_in(session, user=user, user_agent="test", lasts=timedelta(days=1), now=utc_now())

    def follow(self, path: str, token: str = "") -> "Follower":
        """Open a page's events."""
        return Follower(self.port, path, token)


class Follower:
    """An open page that follows what happens."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        cookie = f"Cookie: {SESSION_COOKIE}={token}\r\n" if token else ""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{cookie}\r\n".encode())
        self._heard = b""
        while b"\r\n\r\n" not in self._heard:
            self._heard += self._socket.recv(65536)
        head, _, self._heard = self._heard.partition(b"\r\n\r\n")
        self.status = int(head.split()[1])
        self.head = head.decode().lower()

    def next_event(self, *, within_seconds: float) -> str | None:
        """The next event but for signs of life; None where the stream ended or nothing came."""
        ends = time.monotonic() + within_seconds
        while True:
            while found := EVENT.search(self._heard):
                self._heard = self._heard[found.end() :]
                if found[1] != b"alive":
                    return found[1].decode()
            if self.has_ended or (left := ends - time.monotonic()) <= 0:
                return None
            self._read(left)

    def events(self, count: int, *, within_seconds: float = 5) -> list[str | None]:
        """So many events in order."""
        return [self.next_event(within_seconds=within_seconds) for _ in range(count)]

    def ends(self, *, within_seconds: float) -> bool:
        """Whether the server ends the stream, whatever it says before."""
        ends = time.monotonic() + within_seconds
        while not self.has_ended and (left := ends - time.monotonic()) > 0:
            self._read(left)
        return self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the last chunk has come."""
        return self._heard.endswith(b"0\r\n\r\n")

    def close(self) -> None:
        """Leave the page."""
        self._socket.close()

    def _read(self, seconds: float) -> None:
        self._socket.settimeout(max(0.01, seconds))
        try:
            read = self._socket.recv(65536)
        except TimeoutError:
            return
        self._heard += read or b"0\r\n\r\n"


@contextmanager
def running_web(address: str, sessions: SessionFactory, folder: Path) -> Iterator[Web]:
    """`palate web` on a database."""
    port = free_port()
    environment = {**os.environ, "DATABASE_URL": address, "PALATE_DATA_DIR": str(folder / "data")}
    command = [sys.executable, "-m", "app.cli", "web", "--port", str(port)]
    with (folder / "web.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield Web(process, port, sessions)
    finally:
        process.terminate()
        process.wait(15)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise AssertionError("palate web did not become ready")
