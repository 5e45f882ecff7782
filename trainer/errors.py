"""What can go wrong in the trainer, told to a person: what happened, and what to do now."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class TrainerError(Exception):
    """A problem whose message is fit for the report, the run's page and a terminal."""


class ModelError(TrainerError):
    """A model folder that cannot be loaded, or is not the one that was asked for."""


class NotNumbersError(ModelError):
    """A model that computes NaN."""

    def __init__(self) -> None:
        super().__init__("The model computes values that are not numbers; its weights are damaged.")


class SnapshotError(TrainerError):
    """A snapshot folder that cannot be read, or is not the one that was asked for."""


class NothingToTrainOnError(TrainerError):
    """A snapshot that yields no preference pair."""


class DivergedError(TrainerError):
    """A loss, a gradient or a trained model whose numbers are finite no more."""


@contextmanager
def blaming_training() -> Iterator[None]:
    """What a model computes once its training has begun: NaN is then the training's doing. Raises DivergedError."""
    try:
        yield
    except NotNumbersError as error:
        raise DivergedError(
            "The model that is being trained computes values that are not numbers: training has gone astray. Start a "
            "new run with a lower learning rate."
        ) from error


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def disk_ran_full(error: BaseException) -> bool:
    """Whether an error comes of a full disk; safetensors tells it in words alone, torch in what led to its error."""
    return any(
        (isinstance(each, OSError) and each.errno in {errno.ENOSPC, errno.EDQUOT}) or "No space left" in str(each)
        for each in with_causes(error)
    )
