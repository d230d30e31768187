"""The names of `multiprocessing.queues`."""

from __future__ import annotations

from queue import Empty, Full

from garrison import _standard
from garrison._typing import TYPE_CHECKING
from garrison.sync import JoinableQueue, Queue, SimpleQueue

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = _standard.mirror(__name__, globals())
