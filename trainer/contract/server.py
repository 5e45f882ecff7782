"""The model server's admin API, and the names by which it knows versions and aliases."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainer.contract.base import Contract, Messages, ModelRef

MOST_TEXTS = 64


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


class RewardTexts(Contract):
    """`POST /admin/rewards`: what a reward model thinks of texts written for one prompt. Where it is not held it is
    loaded, in the place of the one held before.
    """

    reward_model: LoadVersion
    prompt: Annotated[Messages, Field(min_length=1)]
    texts: Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]


class TextRewards(Contract):
    """Its answer: a reward for each text, null for one that the model cannot read whole."""

    rewards: list[float | None]


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
