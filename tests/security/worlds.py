"""A world in which every text that somebody else can set means harm."""

import json

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.kernel.walking import Member, World
from tests.security.hostile import ALL_AT_ONCE
from tests.training.reports import probe, report, sample
from trainer.contract.run import ProbePrompt

TEXTS = [
    "UPDATE model_lines SET name = :evil, description = :evil",
    "UPDATE model_versions SET note = :evil",
    "UPDATE deployments SET reason = :evil",
    "UPDATE users SET name = :evil",
    "UPDATE sign_ins SET user_agent = :evil",
    "UPDATE links SET email = :evil",
    "UPDATE campaigns SET name = :evil, system_prompt = :evil, content_warning = :evil",
    "UPDATE enrolments SET warned_at = created_at WHERE :evil <> ''",
    "UPDATE campaign_revisions SET guidelines = :evil, "
    "examples = jsonb_build_array(jsonb_build_object('prompt', :evil, 'good', :evil, 'bad', :evil, 'why', :evil))",
    "UPDATE imports SET filename = :evil, message = :evil, rejections = :rejections",
    "UPDATE prompts SET messages = :messages, state_reason = :evil, tags = ARRAY[:evil], external_id = :evil, "
    "details = jsonb_build_object(:evil, :evil)",
    "UPDATE completions SET text = id || :evil, model_label = :evil, finish_reason = :evil",
    "UPDATE assignments SET skip_reason = :evil",
    "UPDATE judgments SET rationale = :evil, external_annotator = CASE WHEN annotator_id IS NULL THEN :evil END",
    "UPDATE snapshots SET name = :evil, message = :evil",
    "UPDATE runs SET message = :evil, log = :evil, report = :report",
    "UPDATE line_probes SET name = :evil, probe = :probe",
]


def make_hostile(session: Session, world: World, *, evil: str = ALL_AT_ONCE) -> None:
    """Write `evil` wherever a person, a file or a model could have written it, past the forms that refuse some."""
    messages = [{"role": role, "content": evil} for role in ("system", "user", "assistant", "user")]
    samples = [sample(evil)] * 12
    told = report(samples_before=samples, samples_after=samples, probes=[probe(evil)])
    given = {
        "evil": evil,
        "messages": json.dumps(messages),
        "rejections": json.dumps([{"line": 1, "reason": evil, "excerpt": evil}]),
        "report": told.model_dump_json(),
        "probe": ProbePrompt(name=evil, prompt=told.probes[0].prompt).model_dump_json(),
    }
    for statement in TEXTS:
        session.execute(text(statement.replace(":evil", "CAST(:evil AS text)")), given)
    session.commit()
    session.expire_all()
    assert world.people[Member.ADMIN].name == evil
