"""How long a page of the comparisons browser takes, and how that grows: `python -m benchmarks.looking_up 10000 200000`.

Each line is one search over a campaign of that many judged comparisons: the time to find the ids of a page and to
read what the list shows of them, the best of five, in the process itself (no HTTP, no template).
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.accounts.models import Role
from app.accounts.service.sign_ins import Person
from app.campaigns.models import Campaign
from app.comparisons.filters import ComparisonFilter, FilterForm
from app.comparisons.models import BulkVerb
from app.comparisons.service.bulk import Aim, count_targets
from app.comparisons.service.finding import find_page
from app.comparisons.service.listing import list_found
from app.comparisons.service.naming import annotators_of, reader_of
from app.database import make_engine, make_session_factory
from app.pseudonyms import Pseudonyms
from benchmarks.installation import filled_database, postgres

JUDGED = [
    """INSERT INTO assignments (id, comparison_id, campaign_id, annotator_id, state, shown_order, leased_at, expires_at,
                                closed_at)
       SELECT gen_random_uuid(), comparisons.id, campaign_id, judge.id, 'judged',
              (SELECT array_agg(completion_id ORDER BY position) FROM comparison_completions AS m
               WHERE m.comparison_id = comparisons.id), now(), now(), now()
       FROM comparisons JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM users) AS judge
         ON judge.n = comparisons.id % 50""",
    """INSERT INTO judgments (comparison_id, assignment_id, annotator_id, ranking, key, judged_at)
       SELECT comparison_id, id, annotator_id,
              CASE WHEN comparison_id % 10 = 0 THEN jsonb_build_array(to_jsonb(shown_order))
                   ELSE jsonb_build_array(jsonb_build_array(shown_order[1 + comparison_id % 2]),
                                          jsonb_build_array(shown_order[2 - comparison_id % 2])) END,
              gen_random_uuid(), now() - comparison_id * interval '1 minute'
       FROM assignments""",
    """UPDATE slots SET judgment_id = judgments.id, assignment_id = judgments.assignment_id FROM judgments
       WHERE judgments.comparison_id = slots.comparison_id""",
    """UPDATE prompts SET tags = CASE WHEN id % 5000 = 0 THEN ARRAY['rare', 'common'] ELSE ARRAY['common'] END""",
]
SEARCHES: dict[str, dict[str, Any]] = {
    "no filter": {},
    "far down": {"before": 0.1},
    "outcome: first": {"outcome": "first"},
    "outcome: tie, one in ten": {"outcome": "tie"},
    "outcome: not judged, none": {"outcome": "not_judged"},
    "judges disagree, none": {"outcome": "disagreement"},
    "tag: common": {"tag": "common"},
    "tag: rare": {"tag": "rare"},
    "annotator, one in fifty": {"annotator": 0},
    "annotator and tie": {"annotator": 0, "outcome": "tie"},
    "words in every text": {"q": "tea leaves"},
    "words of one comparison": {"q": '"pot of tea for 7000 people"'},
    "words of none": {"q": "nowhere"},
    "words in every text, outcome none": {"q": "leaves", "outcome": "disagreement"},
    "characters of none": {"q": "東京"},
}


def main() -> None:
    """Fill a database for each size and print the figures."""
    sizes = [int(each) for each in sys.argv[1:]] or [10_000, 200_000]
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as (server, _):
        columns = {size: dict(measured(server, size)) for size in sizes}
    print("| search | " + " | ".join(f"{size:,}" for size in sizes) + " |")
    print("|---|" + "---:|" * len(sizes))
    for name in columns[sizes[0]]:
        print(f"| {name} | " + " | ".join(f"{columns[size][name]:.1f} ms" for size in sizes) + " |")


def measured(server: str, size: int) -> list[tuple[str, float]]:
    """Milliseconds of each search."""
    database = filled_database(server, name=f"looking_{size}", comparisons=size, annotators=50)
    engine = make_engine(database.address)
    sessions = make_session_factory(engine)
    with sessions.begin() as session:
        for statement in JUDGED:
            session.execute(text(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))
    admin = Person(id=1, email="", name="", role=Role.ADMIN)
    figures = []
    with sessions() as session:
        reader = reader_of(session, person=admin, pseudonyms=Pseudonyms(b"secret"))
        campaign = session.get_one(Campaign, database.campaign_id)
        judges = annotators_of(session, reader, campaign_ids=[campaign.id])
        for name, given in SEARCHES.items():
            typed = {key: value for key, value in given.items() if key not in {"before", "annotator"}}
            annotator = judges[given["annotator"]][0] if "annotator" in given else None
            which = ComparisonFilter(FilterForm.model_validate(typed), [campaign.id], annotator)
            before = int(size * given["before"]) if "before" in given else None

            def page(which: ComparisonFilter = which, before: int | None = before) -> None:
                list_found(session, find_page(session, which, before=before).ids, which=which, reader=reader)

            figures.append((name, best_of_five(page)))
        figures.append(
            ("who there is to choose", best_of_five(lambda: annotators_of(session, reader, campaign_ids=[campaign.id])))
        )
        tie = ComparisonFilter(FilterForm.model_validate({"outcome": "tie"}), [campaign.id])
        aim = Aim(campaign, BulkVerb.REJECT, tie, None)
        figures.append(("counting all ties, for a change of many", best_of_five(lambda: count_targets(session, aim))))
    engine.dispose()
    return figures


def best_of_five(work: Any) -> float:
    """Milliseconds."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return 1000 * min(took)


if __name__ == "__main__":
    main()
