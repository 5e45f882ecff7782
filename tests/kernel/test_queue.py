"""Work is put in line together with the row that it is for, or not at all."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.queue import enqueue


def waiting_jobs(session: Session) -> list[tuple[str, dict[str, object]]]:
    rows = session.execute(text("SELECT task_name, args FROM procrastinate_jobs ORDER BY id"))
    return [(row.task_name, row.args) for row in rows]


def test_a_job_is_enqueued_with_its_arguments(session: Session) -> None:
    enqueue(session, "datasets:freeze_snapshot", snapshot_id=7)
    assert waiting_jobs(session) == [("datasets:freeze_snapshot", {"snapshot_id": 7})]


def test_a_job_is_not_enqueued_when_its_transaction_is_rolled_back(session: Session) -> None:
    savepoint = session.begin_nested()
    enqueue(session, "datasets:freeze_snapshot", snapshot_id=7)
    savepoint.rollback()
    assert waiting_jobs(session) == []


def test_work_of_which_one_instance_is_enough_waits_once(session: Session) -> None:
    for _ in range(3):
        enqueue(session, "comparisons:fill_queue", once="fill-1", campaign_id=1)
    assert len(waiting_jobs(session)) == 1
