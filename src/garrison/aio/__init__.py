"""garrison for programs with an event loop: pools, locks and queues that are awaited.

It runs on asyncio (uvloop and a notebook's loop too) and on trio. Modules are loaded at their first
use.

Examples
--------
>>> import asyncio
>>> from garrison import aio
>>> async def main():
...     async with aio.Pool(2) as pool:
...         return await pool.apply(pow, (2, 10))
>>> asyncio.run(main())
1024
"""

from __future__ import annotations

from garrison._lazy import lazily
from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from garrison.aio._conditions import Condition
    from garrison.aio._locks import BoundedSemaphore, Event, Lock, Semaphore
    from garrison.aio._pool import Pool
    from garrison.aio._queues import Queue
    from garrison.aio._results import result_of
    from garrison.aio._streams import AsyncIMapIterator

__all__ = [
    "AsyncIMapIterator",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "Pool",
    "Queue",
    "Semaphore",
    "result_of",
]

_HOMES = {
    "_conditions": ("Condition",),
    "_locks": ("BoundedSemaphore", "Event", "Lock", "Semaphore"),
    "_pool": ("Pool",),
    "_queues": ("Queue",),
    "_results": ("result_of",),
    "_streams": ("AsyncIMapIterator",),
}
_load, _own_names = lazily(__name__, globals(), _HOMES)

if not TYPE_CHECKING:
    __dir__ = _own_names

    def __getattr__(name: str) -> Any:
        """Load what is first used now."""
        return _load(name)


del TYPE_CHECKING
