"""What can go wrong in the trainer, told to a person: what happened, and what to do now."""

from __future__ import annotations


class TrainerError(Exception):
    """A problem whose message is fit for the report, the run's page and a terminal."""


class ModelError(TrainerError):
    """A model folder that cannot be loaded, or is not the one that was asked for."""


class SnapshotError(TrainerError):
    """A snapshot folder that cannot be read, or is not the one that was asked for."""


class NothingToTrainOnError(TrainerError):
    """A snapshot that yields no preference pair."""


class DivergedError(TrainerError):
    """A loss or gradient that is no longer a finite number."""
