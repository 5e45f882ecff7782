"""Turning the ids of prompts and imports in a URL into rows of a campaign that this person may touch."""

from typing import Annotated

from fastapi import Depends

from app.campaigns.access import ManagedCampaign, ReadableCampaign
from app.database import DbSession
from app.errors import NotFound
from app.generation.models import Import, ImportKind, Prompt
from app.wording import gettext as _


def readable_prompt(prompt_id: int, campaign: ReadableCampaign, session: DbSession) -> Prompt:
    """A prompt of a campaign whose data this person may see."""
    return _of_campaign(session.get(Prompt, prompt_id), campaign_id=campaign.id)


def managed_prompt(prompt_id: int, campaign: ManagedCampaign, session: DbSession) -> Prompt:
    """A prompt of a campaign that this person manages."""
    return _of_campaign(session.get(Prompt, prompt_id), campaign_id=campaign.id)


def managed_import(import_id: int, campaign: ManagedCampaign, session: DbSession) -> Import:
    """A file of prompts taken into a campaign that this person manages."""
    record = session.get(Import, import_id)
    if record is None or record.campaign_id != campaign.id or record.kind is not ImportKind.PROMPTS:
        raise NotFound(_("There is no such import in this campaign."))
    return record


def _of_campaign(prompt: Prompt | None, *, campaign_id: int) -> Prompt:
    if prompt is None or prompt.campaign_id != campaign_id:
        raise NotFound(_("There is no such prompt in this campaign."))
    return prompt


ReadablePrompt = Annotated[Prompt, Depends(readable_prompt)]
ManagedPrompt = Annotated[Prompt, Depends(managed_prompt)]
ManagedImport = Annotated[Import, Depends(managed_import)]
