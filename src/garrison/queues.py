"""The names of `multiprocessing.queues`."""

from __future__ import annotations

from queue import Empty, Full

from garrison.sync import JoinableQueue, Queue, SimpleQueue

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]
