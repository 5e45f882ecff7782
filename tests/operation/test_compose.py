"""docker-compose.yml: every service's very command and environment, run as processes here. No engine is needed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.settings import ROOT
from app.stack.ports import free_port

GIVEN = {
    "POSTGRES_PASSWORD": "not-used-here",
    "PALATE_SECRET_KEY": "a-secret-of-the-operator-0001",
    "PALATE_MODEL_SERVER_TOKEN": "another-secret-of-theirs-0002",
}
LONG_ENOUGH = 90.0


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


class Here:
    """The services on this machine: names of others become loopback, mounted folders a temporary one."""

    def __init__(self, compose: dict[str, Any], *, database: str, folder: Path) -> None:
        self.services = compose["services"]
        self.ports = {"8000": str(free_port()), "8001": str(free_port())}
        self.database, self.folder = database, folder
        self.running: dict[str, subprocess.Popen[str]] = {}

    def environment(self, service: str) -> dict[str, str]:
        """What compose would set, with its variables filled in."""
        given = {name: self.here(str(value)) for name, value in self.services[service]["environment"].items()}
        given["DATABASE_URL"], given["PALATE_DATA_DIR"] = self.database, str(self.folder)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PALATE_")}
        return {**kept, **given, "COLUMNS": "200"}

    def here(self, text: str) -> str:
        """A value or an argument as it reads on this machine."""
        for name, value in GIVEN.items():
            text = text.replace(f"${{{name}:?put it into .env}}", value)
        text = text.replace("${PALATE_BASE_URL:-http://localhost:8000}", "http://localhost:8000")
        text = text.replace("model-server:8001", f"127.0.0.1:{self.ports['8001']}")
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.ports['8000']}")

    def start(self, service: str) -> subprocess.Popen[str]:
        """The service's command, in its environment."""
        command = self.command(self.services[service]["command"])
        if service == "web":
            command += ["--port", self.ports["8000"]]
        log = (self.folder / f"{service}.log").open("w")
        self.running[service] = subprocess.Popen(
            command, env=self.environment(service), stdout=log, stderr=subprocess.STDOUT, text=True
        )
        return self.running[service]

    def command(self, parts: list[str]) -> list[str]:
        """A command of the image with the programs of this environment."""
        programs = {"palate": [sys.executable, "-m", "app.cli"], "python": [sys.executable]}
        return [*programs[parts[0]], *(self.here(part) for part in parts[1:])]

    def is_healthy(self, service: str) -> bool:
        """Run the service's own health check."""
        kind, *check = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            self.command(check), env=self.environment(service), capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def wait_until_healthy(self, service: str) -> None:
        """Until the check passes; fails with the log where it never does."""
        deadline = time.monotonic() + LONG_ENOUGH
        while not self.is_healthy(service):
            log = (self.folder / f"{service}.log").read_text()[-2000:]
            assert self.running[service].poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.2)

    def stop(self) -> None:
        """End what was started here."""
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.terminate()
                process.wait(30)


@pytest.fixture
def here(compose: dict[str, Any], empty_database: str, tmp_path: Path) -> Iterator[Here]:
    here = Here(compose, database=empty_database, folder=tmp_path)
    yield here
    here.stop()


@pytest.mark.slow
def test_every_service_starts_as_written_and_passes_its_health_check(here: Here) -> None:
    assert here.start("migrate").wait(LONG_ENOUGH) == 0
    said = (here.folder / "migrate.log").read_text()
    assert "/links/" in said, "the first admin's link"
    for service in ("model-server", "worker", "web"):
        assert not here.services[service].get("profiles")
        here.start(service)
    for service in ("model-server", "worker", "web"):
        here.wait_until_healthy(service)
    address = f"http://127.0.0.1:{here.ports['8000']}"
    assert httpx.get(f"{address}/sign-in").status_code == 200
    here.running["worker"].kill()
    here.running["worker"].wait()
    deadline = time.monotonic() + LONG_ENOUGH
    while here.is_healthy("worker"):
        assert time.monotonic() < deadline, "a dead worker is noticed"
        time.sleep(1)


def test_services_agree_on_database_folder_and_secrets(compose: dict[str, Any]) -> None:
    palate = {name: service for name, service in compose["services"].items() if name != "postgres"}
    assert set(palate) == {"migrate", "web", "worker", "model-server", "worker-gpu", "model-server-gpu"}
    environments = [service["environment"] for service in palate.values()]
    assert all(environment == environments[0] for environment in environments)
    assert all(service["volumes"] == ["data:/data"] for service in palate.values())
    for service in palate.values():
        waits_for = service["depends_on"]
        assert waits_for in (
            {"postgres": {"condition": "service_healthy"}},
            {"migrate": {"condition": "service_completed_successfully"}},
        )


@pytest.mark.parametrize("command", ["web", "up"])
def test_pages_beyond_this_machine_need_an_address(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PALATE_DATA_DIR": str(tmp_path), "PALATE_HOST": "0.0.0.0"}  # noqa: S104
    environment.pop("PALATE_BASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "PALATE_BASE_URL" in done.stderr


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    for name in ("PALATE_SECRET_KEY", "PALATE_MODEL_SERVER_TOKEN", "DATABASE_URL"):
        assert ":?" in environment[name]
