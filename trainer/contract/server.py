"""The model server's admin API, and the names by which it knows versions and aliases."""

from __future__ import annotations

from trainer.contract.base import Contract, ModelRef


class LoadVersion(Contract):
    """`POST /admin/versions`: load a model folder under a name; loading the same again changes nothing.

    `base` says where the base of an adapter lies, if not where the adapter's own `base_model.json` says.
    """

    name: str
    path: str
    sha256: str
    base: ModelRef | None = None


class PointAlias(Contract):
    """`PUT /admin/aliases`: requests that name `alias` go to `version` from now on."""

    alias: str
    version: str


class LoadedVersion(Contract):
    """One version in memory. `bytes` are those of all that it needs, a base that it shares with others included."""

    name: str
    path: str
    sha256: str
    bytes: int
    requests_under_way: int
    chat_template_sha256: str
    tokenizer_sha256: str
    context_tokens: int


class ServerState(Contract):
    """`GET /admin/state`."""

    versions: list[LoadedVersion]
    aliases: dict[str, str]
    refused: dict[str, str] = {}
    """Why a version was not loaded when that was last asked, by its name."""


def version_name(line_slug: str, number: int) -> str:
    """The name of a model version on the model server and in datasets: `starter-v0` is a line's base."""
    return f"{line_slug}-v{number}"


def alias_name(line_slug: str, alias: str) -> str:
    """The name of a line's alias on the model server: `starter/current`."""
    return f"{line_slug}/{alias}"
