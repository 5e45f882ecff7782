"""Who is called what by whom: managers see people by name, researchers by the pseudonym that snapshots have."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.service.sign_ins import Person
from app.campaigns.access import campaigns_with_access
from app.campaigns.models import Access, Campaign
from app.comparisons.filters import Annotator
from app.pseudonyms import Pseudonyms


@dataclass(frozen=True)
class Who:
    """Somebody as a page names them. `user_id` only where the reader may know who it is."""

    label: str
    pseudonym: str
    user_id: int | None = None
    by_name: bool = True


@dataclass
class Reader:
    """Somebody who looks at data: the campaigns they may see, those that they manage, and how people are named."""

    person: Person
    campaigns: dict[int, Campaign]
    managed: set[int]
    pseudonyms: Pseudonyms
    _names: dict[int, str] = field(default_factory=dict)

    def may_manage(self, campaign_id: int) -> bool:
        """Whether this person manages a campaign."""
        return campaign_id in self.managed

    def learn(self, session: Session, user_ids: Iterable[int | None]) -> None:
        """Look up the names of those whom a page is about to name."""
        unknown = {each for each in user_ids if each is not None} - set(self._names)
        if unknown:
            rows = session.query(User.id, User.name).where(User.id.in_(unknown))
            self._names.update({row.id: row.name for row in rows})

    def call(self, user_id: int, *, campaign_id: int) -> Who:
        """A person of this installation, `learn`ed before, as this reader may know them in a campaign."""
        pseudonym = self.pseudonyms.of_user(user_id)
        if self.may_manage(campaign_id):
            return Who(self._names.get(user_id, pseudonym), pseudonym, user_id)
        return Who(pseudonym, pseudonym, by_name=False)

    def call_annotator(self, row: Any, *, campaign_id: int) -> Who:
        """Whoever made a judgment: `annotator_id`, or `import_id` and `external_annotator` of an import."""
        if row.annotator_id is not None:
            return self.call(row.annotator_id, campaign_id=campaign_id)
        return self.call_external(row.import_id, row.external_annotator, campaign_id=campaign_id)

    def call_external(self, import_id: int, name: str, *, campaign_id: int) -> Who:
        """Somebody whom an import names."""
        pseudonym = self.pseudonyms.of_external(import_id, name)
        manages = self.may_manage(campaign_id)
        return Who(name if manages else pseudonym, pseudonym, by_name=manages)


def reader_of(session: Session, *, person: Person, pseudonyms: Pseudonyms) -> Reader:
    """What a person may see of all campaigns' data, and how."""
    readable = campaigns_with_access(session, person=person, least=Access.RESEARCH)
    managed = campaigns_with_access(session, person=person, least=Access.MANAGE)
    return Reader(person, {each.id: each for each in readable}, {each.id for each in managed}, pseudonyms)


# The next annotator by id, again and again: as many lookups as there are people, however much they judged.
_JUDGES = text(
    """
    WITH RECURSIVE judges AS (
      SELECT min(annotator_id) AS id FROM assignments
      UNION ALL
      SELECT (SELECT min(annotator_id) FROM assignments WHERE annotator_id > judges.id) FROM judges
      WHERE judges.id IS NOT NULL
    )
    SELECT judges.id, found.campaign_id FROM judges CROSS JOIN LATERAL (
      SELECT campaign_id FROM assignments WHERE annotator_id = judges.id AND campaign_id = ANY(:campaigns) LIMIT 1
    ) AS found
    """
)


# The same over the names in imports.
_EXTERNAL = text(
    """
    WITH RECURSIVE names AS (
      (SELECT import_id, external_annotator AS name FROM judgments WHERE import_id = ANY(:imports)
       ORDER BY import_id, external_annotator LIMIT 1)
      UNION ALL
      SELECT later.import_id, later.name FROM names CROSS JOIN LATERAL (
        SELECT import_id, external_annotator AS name FROM judgments
        WHERE (import_id, external_annotator) > (names.import_id, names.name) AND import_id = ANY(:imports)
        ORDER BY import_id, external_annotator LIMIT 1
      ) AS later
    )
    SELECT names.import_id, names.name, imports.campaign_id
    FROM (SELECT * FROM names LIMIT :most) AS names JOIN imports ON imports.id = names.import_id
    """
)
_IMPORTS = text("SELECT id FROM imports WHERE campaign_id = ANY(:campaigns) AND kind = 'comparisons' ORDER BY id")
MOST_EXTERNAL = 500
"""Names out of imports that a list offers; who looks for one among more narrows to their campaign first."""


def annotators_of(session: Session, reader: Reader, *, campaign_ids: list[int]) -> list[tuple[Annotator, Who]]:
    """Everybody who was ever given a comparison of these campaigns or judged in their imports.

    They go by the name that the reader may know.
    """
    managed = all(reader.may_manage(each) for each in campaign_ids)
    rows = session.execute(_JUDGES, {"campaigns": campaign_ids}).all()
    reader.learn(session, [row.id for row in rows])
    named = [(Annotator(row.id), reader.call(row.id, campaign_id=row.campaign_id if managed else 0)) for row in rows]
    imports = list(session.scalars(_IMPORTS, {"campaigns": campaign_ids}))
    for row in session.execute(_EXTERNAL, {"imports": imports, "most": MOST_EXTERNAL}) if imports else ():
        who = reader.call_external(row.import_id, row.name, campaign_id=row.campaign_id if managed else 0)
        named.append((Annotator(import_id=row.import_id, external=row.name), who))
    return sorted(named, key=lambda each: each[1].label.lower())
