"""Everything that may be set from outside, read once and handed to whoever needs it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from trainer.contract.logs import FORMAT_VARIABLE, LEVEL_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: templates, static files, migrations and the starter model lie beside the code."""


MODEL_SERVER_NOTE = "model-server-url"
"""File in the data folder by which `palate up`, which takes any free port, tells other commands of its model server."""
KEY_PREFIX = "PALATE_KEY_"
"""Variables whose names begin so hold keys of other model servers; no other variable is ever sent to one."""


def _keys_of_environment() -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in os.environ.items() if name.startswith(KEY_PREFIX)}


class Settings(BaseSettings):
    """One frozen value per process. Each field is an environment variable `PALATE_<NAME>`, or `DATABASE_URL`."""

    model_config = SettingsConfigDict(
        env_prefix="PALATE_", frozen=True, extra="ignore", populate_by_name=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("palate-data")
    """Folder for the embedded database, snapshots, runs and models; shared by worker, trainer and model server."""

    database_url: Annotated[str | None, Field(validation_alias="DATABASE_URL")] = None
    """PostgreSQL address. Unset: an embedded PostgreSQL in `data_dir` is started and used."""

    host: str = "127.0.0.1"
    """Address that the web process listens on. Beyond loopback, `base_url` and secrets must be set."""

    port: int = 8000
    """Port of the web process."""

    base_url: HttpUrl | None = None
    """Address that people use, for links in invitations; decides whether cookies are `Secure`."""

    secret_key: SecretStr | None = None
    """Signs CSRF tokens and pseudonyms. Unset: drawn once and kept in `data_dir/secret-key`."""

    model_server_url: str = "http://127.0.0.1:8001"
    """Where the model server answers."""

    model_server_token: SecretStr | None = None
    """Admin token of the model server. Unset: drawn once and kept in `data_dir/model-server-token`."""

    model_memory_megabytes: int | None = None
    """Memory for the weights that the model server holds at once. Unset: half of the machine's."""

    metrics_token: SecretStr | None = None
    """Whoever sends it as a bearer token may read `/metrics`. Unset: there is no such page."""

    log_format: Literal["text", "json"] = "text"
    """Form of the logs: lines for people, or one JSON object per line for whoever collects them."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What is logged: this and whatever is graver. INFO holds a line per request."""

    model_roots: list[Path] = []
    """Further folders from which models may be loaded, beside `data_dir` and the starter model."""

    endpoint_origins: list[str] = []
    """Origins (`http://10.0.0.7:8000`) of other model servers that may be private, and asked without https."""

    endpoint_keys: Annotated[dict[str, SecretStr], Field(default_factory=_keys_of_environment)]
    """Keys of other model servers by the variable's name: whatever the environment holds as `PALATE_KEY_<NAME>`."""

    lease_seconds: int = 15 * 60
    """How long a comparison stays reserved for an annotator who shows no sign of life."""

    session_days: int = 30
    """How long a sign-in lasts without being used."""

    upload_megabytes: int = 200
    """Largest file that a browser may send."""

    queue_target: int = 60
    """Comparisons kept ready ahead of the annotators, per campaign."""

    generation_seed: int | None = None
    """Decides which samples prompts get: two fresh installations with the same one draw the same. Unset: by chance."""

    trainer_threads: int | None = None
    """Threads of a training run. Unset: all cores."""

    trainer_processes: int = Field(default=1, ge=1, le=64)
    """Processes that share out a training run, started by torchrun: one per GPU, or 1."""

    trainer_sharded: bool = False
    """Whether each of several such processes holds a share of the model alone (FSDP), rather than all of it."""

    @property
    def is_secure(self) -> bool:
        """Whether people reach the app over HTTPS."""
        return self.base_url is not None and self.base_url.scheme == "https"

    @property
    def snapshots_dir(self) -> Path:
        """Where frozen datasets lie."""
        return self.data_dir / "snapshots"

    @property
    def runs_dir(self) -> Path:
        """Where training runs lie."""
        return self.data_dir / "runs"

    @property
    def starter_dir(self) -> Path:
        """The starter model's package: weights, prompts and probe prompts that ship with Palate."""
        return ROOT / "trainer" / "starter"

    @property
    def allowed_model_roots(self) -> list[Path]:
        """Folders from which the model server may load."""
        return [self.data_dir, self.starter_dir / "model", *self.model_roots]

    @property
    def log_environment(self) -> dict[str, str]:
        """What tells any of Palate's processes how to log."""
        return {FORMAT_VARIABLE: self.log_format, LEVEL_VARIABLE: self.log_level}

    def required_secret(self) -> bytes:
        """The installation's secret key; raises RuntimeError where `with_secrets` was not used."""
        if self.secret_key is None:
            raise RuntimeError("Settings were read without secrets; use load_settings()")
        return self.secret_key.get_secret_value().encode()


def load_settings() -> Settings:
    """Settings from the environment, with secrets drawn and kept in the data folder where none are given.

    Where no address of the model server is set, it is the one that a running `palate up` noted beside them.
    """
    settings = with_secrets(Settings())
    noted = settings.data_dir / MODEL_SERVER_NOTE
    if "model_server_url" in settings.model_fields_set or not noted.is_file():
        return settings
    return settings.model_copy(update={"model_server_url": noted.read_text().strip()})


def with_secrets(settings: Settings) -> Settings:
    """The same settings with every secret filled in, from `data_dir` or freshly drawn into it."""
    data_dir = settings.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    secret_key = settings.secret_key or _kept_secret(data_dir / "secret-key")
    token = settings.model_server_token or _kept_secret(data_dir / "model-server-token")
    return settings.model_copy(update={"data_dir": data_dir, "secret_key": secret_key, "model_server_token": token})


def _kept_secret(path: Path) -> SecretStr:
    """A secret that lives in a file only its owner can read; two processes starting at once agree on one."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(32))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return SecretStr(path.read_text().strip())
