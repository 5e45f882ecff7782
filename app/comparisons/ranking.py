"""Rankings as tie groups, how they are written on the wire, and their two translations.

A ranking is a list of tie groups, best first, and a group a list of the things that are equally good. On
the wire and on the page things are named by the **position** in which they were shown, from 1: `2>1=3` says
that the second is best and the other two tie. In the database they are completion ids. The translation
between the two happens here and nowhere else.
"""

import re
from collections.abc import Sequence

from app.errors import Invalid
from app.wording import gettext as _

Groups = list[list[int]]
"""Tie groups, best first."""

_WIRE_FORM = re.compile(r"\d{1,3}([>=]\d{1,3})*", re.ASCII)


def parse_ranking(text: str, count: int) -> Groups:
    """The tie groups of positions that `text` writes, each group in ascending order.

    Raises Invalid unless every position from 1 to `count` is there exactly once.
    """
    plain = "".join(text.split())
    if not _WIRE_FORM.fullmatch(plain):
        raise Invalid(_("A ranking is written like 2>1=3, best first; %(given)s is not.", given=f"{text[:60]!r}"))
    groups = [sorted(int(position) for position in group.split("=")) for group in plain.split(">")]
    if sorted(position for group in groups for position in group) != list(range(1, count + 1)):
        raise Invalid(
            _(
                "A ranking names each position from 1 to %(count)s once; %(given)s does not.",
                count=count,
                given=f"{text[:60]!r}",
            )
        )
    return groups


def format_ranking(groups: Sequence[Sequence[int]]) -> str:
    """Tie groups of positions as they are written on the wire: `2>1=3`."""
    return ">".join("=".join(str(position) for position in group) for group in groups)


def all_tied(members: Sequence[int]) -> Groups:
    """The ranking that prefers none of `members`."""
    return [sorted(members)]


def has_ties(groups: Groups) -> bool:
    """Whether any two are said to be equally good."""
    return any(len(group) > 1 for group in groups)


def combined(rankings: Sequence[Groups]) -> Groups:
    """What several rankings of the same things say together, by the sum of ranks; ties share the mean of theirs.

    That is the Borda count with mid-ranks. `rankings` must not be empty.
    """
    sums: dict[int, float] = {}
    for groups in rankings:
        above = 0
        for group in groups:
            for member in group:
                sums[member] = sums.get(member, 0) + above + (len(group) - 1) / 2
            above += len(group)
    return [sorted(member for member in sums if sums[member] == value) for value in sorted(set(sums.values()))]


def to_completions(positions: Groups, shown_order: Sequence[int]) -> Groups:
    """A ranking of shown positions as one of completion ids. `shown_order` lists them, first to last."""
    return [sorted(shown_order[position - 1] for position in group) for group in positions]


def to_positions(completions: Groups, shown_order: Sequence[int]) -> Groups:
    """A ranking of completion ids as one of the positions in which they were shown; undoes `to_completions`."""
    places = {completion_id: place for place, completion_id in enumerate(shown_order, start=1)}
    return [sorted(places[completion_id] for completion_id in group) for group in completions]
