"""Handing on what is heard, within one process."""

import asyncio

from app.live.hub import Hub, Reader


def follower(hub: Hub, *topics: str) -> Reader:
    hub.is_open = True
    return Reader(person_id=1, topics=list(topics))


def test_a_slow_page_is_told_once_of_what_changed_often() -> None:
    async def story() -> list[list[str]]:
        hub = Hub()
        reader = follower(hub, "run-1", "line-1")
        with hub.reading(reader):
            first = await reader.news(within_seconds=1)
            for _ in range(10_000):
                hub.tell("run-1")
            hub.tell("run-2")
            return [first, await reader.news(within_seconds=1), await reader.news(within_seconds=0.01)]

    assert asyncio.run(story()) == [["line-1", "run-1"], ["run-1"], []]


def test_who_left_is_forgotten() -> None:
    async def story() -> Hub:
        hub = Hub()
        with hub.reading(follower(hub, "run-1")):
            pass
        hub.tell("run-1")
        return hub

    hub = asyncio.run(story())
    assert (dict(hub._readers), dict(hub._by_person)) == ({}, {})


def test_news_of_a_person_send_their_pages_away_and_nobody_elses() -> None:
    async def story() -> tuple[bool, bool]:
        hub = Hub()
        mine, theirs = follower(hub, "run-1"), Reader(person_id=2, topics=["run-1"])
        with hub.reading(mine), hub.reading(theirs):
            hub.tell("person-1")
            return mine.has_ended, theirs.has_ended

    assert asyncio.run(story()) == (True, False)


def test_what_is_announced_soon_waits_a_round_and_is_said_once() -> None:
    hub = Hub()
    for _ in range(1000):
        hub.announce_soon("campaign", 5)
    assert hub.due() == set(), "whoever noted it may not have committed yet"
    hub.announce_soon("campaign", 5)
    hub.announce_soon("campaign", 6)
    assert hub.due() == {"campaign-5"}
    assert hub.due() == {"campaign-5", "campaign-6"}
    assert hub.due() == set()
