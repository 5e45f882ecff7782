"""A model server of the test's own, with two tiny models that can be told apart."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.settings import ROOT, Settings, with_secrets
from tests.factories.serving import lettered_model, save

TOKEN = "a-token-for-tests-only"


class ServerProcess:
    """`python -m trainer serve` on one port, to be stopped and started again."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "trainer", "serve", "--threads", "1", "--port", str(self.port)]
        environment = {**os.environ, "PALATE_MODEL_SERVER_TOKEN": TOKEN}
        self.process = subprocess.Popen(
            [*command, "--allowed-root", str(self.root)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        address = self.process.stdout.readline()
        assert address.startswith("Model server on"), address
        self.port = int(address.rpartition(":")[2])

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `left` and `right`."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / "left", lettered_model("ab"))
    save(folder / "right", lettered_model("yz"))
    return folder


@pytest.fixture(scope="module")
def running_server(models: Path) -> Iterator[ServerProcess]:
    """One model server for the tests of a file: starting it takes seconds."""
    server = ServerProcess(models, 0)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def model_server(running_server: ServerProcess) -> ServerProcess:
    """A model server that knows nothing, as one that has just been started."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{running_server.port}/admin", headers=headers) as admin:
        state = admin.get("/state").json()
        for alias in state["aliases"]:
            admin.delete(f"/aliases/{alias}").raise_for_status()
        for version in state["versions"]:
            admin.delete(f"/versions/{version['name']}").raise_for_status()
    return running_server


@pytest.fixture
def served_settings(tmp_path: Path, model_server: ServerProcess) -> Settings:
    """Settings that name the test's model server."""
    return with_secrets(
        Settings(
            data_dir=tmp_path / "data",
            model_server_url=f"http://127.0.0.1:{model_server.port}",
            model_server_token=TOKEN,
        )
    )
