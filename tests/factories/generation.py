"""Prompts, completions and imports for tests."""

from itertools import count
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.deployments.models import ModelVersion
from app.generation.models import Completion, CompletionSource, Import, ImportKind, ImportState, Prompt, Split
from app.generation.normalising import messages_sha256, split_of, text_sha256
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_line

_numbers = count(1)


def make_prompt(
    session: Session,
    campaign: Campaign | None = None,
    text: str = "",
    *,
    messages: list[dict[str, Any]] | None = None,
    **given: Any,
) -> Prompt:
    """An active prompt of one user message, its split as its text has it; `given` sets any other column."""
    campaign = campaign or make_campaign(session)
    messages = messages or [{"role": "user", "content": text or f"What is {next(_numbers)} plus one?"}]
    sha256 = messages_sha256(messages)
    values: dict[str, Any] = {"split": Split(split_of(sha256)), "created_at": NOW, **given}
    prompt = Prompt(campaign_id=campaign.id, messages=messages, text_sha256=sha256, **values)
    session.add(prompt)
    session.flush()
    session.refresh(prompt)
    return prompt


def make_completion(
    session: Session,
    prompt: Prompt | None = None,
    text: str = "",
    *,
    version: ModelVersion | None = None,
    source: CompletionSource = CompletionSource.MODEL,
    **given: Any,
) -> Completion:
    """A completion of a prompt: by `version`, else by the version the prompt's campaign serves (or a new one).

    With another `source` no version is filled in; a person's completion needs `author_id`.
    """
    prompt = prompt or make_prompt(session)
    text = text or f"It is {next(_numbers)}."
    if version is None and source is CompletionSource.MODEL:
        version = _version_of(session, prompt)
    values: dict[str, Any] = {"finish_reason": "stop", "completion_tokens": len(text.split()), **given}
    completion = Completion(
        prompt_id=prompt.id,
        source=source,
        text=text,
        normalised_sha256=text_sha256(text),
        model_version_id=None if version is None else version.id,
        created_at=NOW,
        **values,
    )
    session.add(completion)
    session.flush()
    session.refresh(completion)
    return completion


def make_import(session: Session, campaign: Campaign, *, kind: ImportKind = ImportKind.PROMPTS, **given: Any) -> Import:
    """A finished import, unless `given` says otherwise."""
    values: dict[str, Any] = {"state": ImportState.DONE, "filename": "prompts.jsonl", **given}
    record = Import(campaign_id=campaign.id, kind=kind, created_at=NOW, **values)
    session.add(record)
    session.flush()
    session.refresh(record)
    return record


def _version_of(session: Session, prompt: Prompt) -> ModelVersion:
    """The newest version of the line of the prompt's campaign."""
    line = prompt.campaign.line or make_line(session)
    newest = select(ModelVersion).where(ModelVersion.line_id == line.id).order_by(ModelVersion.number.desc()).limit(1)
    return session.scalars(newest).one()
