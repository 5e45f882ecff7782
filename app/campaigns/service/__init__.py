"""The verbs of campaigns: write and revise one, open and close it, and say who takes part."""

from app.campaigns.service.editing import (
    CampaignPlan,
    Question,
    create_campaign,
    current_revision,
    edit_campaign,
    revise_campaign,
)
from app.campaigns.service.listing import ListedCampaign, list_campaigns
from app.campaigns.service.opening import (
    close_campaign,
    obstacles_to_opening,
    open_campaign,
    pause_campaign,
    resume_campaign,
)
from app.campaigns.service.people import (
    Invitation,
    PendingInvitation,
    change_enrolment,
    enrol_person,
    invite_person,
    list_enrolments,
    list_pending_invitations,
    remove_enrolment,
    take_up_invited_enrolments,
)
from app.campaigns.service.progress import (
    CampaignProgress,
    PersonProgress,
    campaign_progress,
    progress_by_campaign,
    progress_by_person,
)
from app.campaigns.service.sources import ModelSource, list_model_sources

__all__ = [
    "CampaignPlan",
    "CampaignProgress",
    "Invitation",
    "ListedCampaign",
    "ModelSource",
    "PendingInvitation",
    "PersonProgress",
    "Question",
    "campaign_progress",
    "change_enrolment",
    "close_campaign",
    "create_campaign",
    "current_revision",
    "edit_campaign",
    "enrol_person",
    "invite_person",
    "list_campaigns",
    "list_enrolments",
    "list_model_sources",
    "list_pending_invitations",
    "obstacles_to_opening",
    "open_campaign",
    "pause_campaign",
    "progress_by_campaign",
    "progress_by_person",
    "remove_enrolment",
    "resume_campaign",
    "revise_campaign",
    "take_up_invited_enrolments",
]
