"""`Statistics`: the state of a pool as a record."""

from __future__ import annotations

import dataclasses

__all__ = ["Statistics"]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The present state of a pool: a result of `Pool.statistics`.

    Attributes
    ----------
    workers : int
        Workers that are alive.
    busy : int
        Workers with a task.
    queued : int
        Tasks that no worker has begun.
    in_flight : int
        Tasks that were submitted and whose results were not read yet.
    completed : int
        Tasks that have ended since the pool was made.
    deaths : int
        Workers that have died.
    retried : int
        Attempts that were made again after a death.
    supervisor_pid : int or None
        The supervisor's process number; None if there is none at the moment.
    supervisors_lost : int
        Supervisors that have died and were replaced.
    worker_pids : tuple of int
        The workers' process numbers.
    """

    workers: int
    busy: int
    queued: int
    in_flight: int
    completed: int
    deaths: int
    retried: int
    supervisor_pid: int | None
    supervisors_lost: int
    worker_pids: tuple[int, ...]


Statistics.__module__ = "garrison.pool"
