"""What all parts of the contract are made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1
"""Version of the snapshot and run folders; a reader refuses a newer one."""


class Contract(BaseModel):
    """A value that crosses between app and trainer: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelRef(Contract):
    """A model folder and the hash of its weights (`weights_sha256`); the trainer refuses another.

    `base` says where the base of an adapter lies; without it, the adapter's own `base_model.json` does.
    """

    name: str
    path: str
    sha256: str
    base: ModelRef | None = None


class Message(Contract):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


Messages = list[Message]
