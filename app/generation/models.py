"""Tables of imports, prompts and completions."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, Text, text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.campaigns.models import Campaign
from app.database import Base, stored_by_value
from app.deployments.models import ModelVersion


class ImportKind(StrEnum):
    """What a file brings."""

    PROMPTS = "prompts"
    COMPARISONS = "comparisons"


class ImportState(StrEnum):
    """Where an import is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Import(Base):
    """One file taken in. Good lines load; each bad one is reported with number and reason."""

    __tablename__ = "imports"
    __table_args__ = (Index(None, "campaign_id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    kind: Mapped[ImportKind] = mapped_column(stored_by_value(ImportKind))
    state: Mapped[ImportState] = mapped_column(stored_by_value(ImportState))
    filename: Mapped[str]
    sha256: Mapped[str | None] = mapped_column(comment="of the file as received")
    counts: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="lines, added, duplicates, rejected, judgments ..."
    )
    rejections: Mapped[list[Any]] = mapped_column(
        server_default=text("'[]'"), comment="[{line, reason, excerpt}], the first 1,000"
    )
    message: Mapped[str] = mapped_column(server_default="", comment="why it failed as a whole")
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


PROMPT_WORDS = """
CASE
    WHEN length(messages::text) <= 100000 \
THEN to_tsvector('simple'::regconfig, jsonb_path_query_array(messages, '$[*]."content"'::jsonpath))
    ELSE to_tsvector('simple'::regconfig, "left"(messages::text, 100000))
END"""
COMPLETION_WORDS = "to_tsvector('simple'::regconfig, left(text, 100000))"
"""What is searched for words, in any language that sets them apart. Of very long texts only the beginning: PostgreSQL
refuses a vector beyond 1 MB, and with it the row. Written as PostgreSQL prints it, so that Alembic finds no difference.
"""


class Split(StrEnum):
    """Which side of the held-out line a prompt is on; set once."""

    TRAIN = "train"
    EVAL = "eval"


class PromptState(StrEnum):
    """Only active prompts get comparisons; a set-aside one needs a look, a retired one is over."""

    ACTIVE = "active"
    SET_ASIDE = "set_aside"
    RETIRED = "retired"


class Prompt(Base):
    """A list of chat messages ending in a user turn."""

    __tablename__ = "prompts"
    __table_args__ = (
        Unique("campaign_id", "text_sha256"),
        Index(None, "campaign_id", "state", "id"),
        Index("ix_prompts_tags", "tags", postgresql_using="gin"),
        Index("ix_prompts_words", text(PROMPT_WORDS), postgresql_using="gin"),
        CheckConstraint("jsonb_array_length(messages) > 0", name="has_messages"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id"))
    messages: Mapped[list[dict[str, Any]]] = mapped_column(comment="[{role, content}]")
    text_sha256: Mapped[str] = mapped_column(comment="of the normalised text; duplicates share it")
    split: Mapped[Split | None] = mapped_column(
        stored_by_value(Split), comment="null: nearly the same as prompts of both sides, and used on neither"
    )
    near_sha256: Mapped[str | None] = mapped_column(
        comment="text_sha256 of the prompt that this one is nearly the same as, and whose side it took"
    )
    state: Mapped[PromptState] = mapped_column(stored_by_value(PromptState), server_default="active")
    state_reason: Mapped[str] = mapped_column(server_default="")
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), comment="metadata of the source")
    external_id: Mapped[str | None]
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id"))
    failed_draws: Mapped[int] = mapped_column(
        server_default=text("0"), comment="draws in a row without enough distinct samples"
    )
    created_at: Mapped[datetime]

    campaign: Mapped[Campaign] = relationship()


class PromptBand(Base):
    """One of the MinHash bands by which near-duplicates of a prompt are found."""

    __tablename__ = "prompt_bands"

    band: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), primary_key=True)


class CompletionSource(StrEnum):
    """Who wrote a completion."""

    MODEL = "model"
    IMPORTED = "imported"
    PERSON = "person"


class Completion(Base):
    """One text for one prompt. Never edited: a correction is another completion."""

    __tablename__ = "completions"
    __table_args__ = (
        Index(None, "prompt_id"),
        Index("ix_completions_words", text(COMPLETION_WORDS), postgresql_using="gin"),
        Index(None, "model_version_id", postgresql_where=text("model_version_id IS NOT NULL")),
        CheckConstraint("source <> 'model' OR model_version_id IS NOT NULL", name="model_names_its_version"),
        CheckConstraint("source <> 'person' OR author_id IS NOT NULL", name="person_names_its_author"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    source: Mapped[CompletionSource] = mapped_column(stored_by_value(CompletionSource))
    text: Mapped[str]
    normalised_sha256: Mapped[str] = mapped_column(comment="of the normalised text; alike completions share it")
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    model_label: Mapped[str | None] = mapped_column(comment="what an import called its model")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    import_id: Mapped[int | None] = mapped_column(ForeignKey("imports.id"))
    temperature: Mapped[float | None]
    top_p: Mapped[float | None]
    max_tokens: Mapped[int | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    finish_reason: Mapped[str | None]
    completion_tokens: Mapped[int | None]
    latency_ms: Mapped[int | None]
    chat_template_sha256: Mapped[str | None]
    tokenizer_sha256: Mapped[str | None]
    token_ids: Mapped[list[int] | None] = mapped_column(ARRAY(Integer), comment="as generated, where known")
    created_at: Mapped[datetime]

    prompt: Mapped[Prompt] = relationship()
    model_version: Mapped[ModelVersion | None] = relationship()
