"""Which version to go back to: worked out from what an alias has pointed at, oldest first."""

from collections.abc import Iterable


def version_before(deployed: Iterable[int]) -> int | None:
    """The version to roll back to, or None where nothing served before.

    Going back to an earlier version undoes what came after it, so rolling back twice goes two steps back
    rather than forth again: after 0, 1, 2 and a return to 1, the version before is 0.
    """
    served: list[int] = []
    for version_id in deployed:
        if version_id in served:
            del served[served.index(version_id) + 1 :]
        else:
            served.append(version_id)
    return served[-2] if len(served) > 1 else None
