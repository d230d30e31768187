"""An agent on a Dask worker, as the driver reaches it; and large data on its way there."""

from __future__ import annotations

import asyncio
import itertools

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.dask._worker import keep_blob, serialized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from garrison.engines.dask._connection import Connection, Route

    Failed = Callable[[str, str], Awaitable[None]]

__all__ = ["Blob", "DaskNode"]

_SCATTERED_BYTES = 1 << 20
"""From this size on Dask brings data from worker to worker; smaller data come with a message."""
_numbers = itertools.count()


class Blob:
    """Data for nodes. The driver keeps them, so that the loss of a worker loses none.

    Parameters
    ----------
    data : bytes or buffer
        What to store.
    """

    def __init__(self, data: Any) -> None:
        self.data: Any = data
        self.large: bool = memoryview(data).nbytes >= _SCATTERED_BYTES
        self._stored: asyncio.Task[Any] | None = None

    async def stored(self, connection: Connection, worker: str) -> Any:
        """Return Dask's future of the data; the first call sends them to a worker."""
        if self._stored is None or self._failed():
            sending = connection.scatter(self.data, [worker], direct=True)
            self._stored = asyncio.ensure_future(sending)
        return await asyncio.shield(self._stored)

    def _failed(self) -> bool:
        sent = self._stored
        if sent is None or not sent.done():
            return False
        return (
            sent.cancelled() or sent.exception() is not None or sent.result().status != "finished"
        )

    def drop(self) -> None:
        """Forget the data, here and in the cluster. It runs in the client's loop."""
        sent, self._stored = self._stored, None
        if sent is not None and sent.done() and not sent.cancelled() and sent.exception() is None:
            sent.result().release()
        elif sent is not None:
            sent.cancel()


class DaskNode:
    """A Dask worker with an agent.

    Parameters
    ----------
    connection : Connection
        The driver's connection.
    route : Route
        How the worker is called.
    agent : str
        The agent's key.
    workers : int
        Workers of its local pool.
    failed : callable
        A coroutine function, called as ``failed(name, reason)`` when a call fails.
    release : callable
        Called with this node.
    """

    def __init__(
        self,
        connection: Connection,
        route: Route,
        agent: str,
        workers: int,
        failed: Failed,
        release: Callable[[DaskNode], object],
    ) -> None:
        self._connection = connection
        self._route = route
        self._failed = failed
        self._release = release
        self._turns = itertools.count()
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.agent: str = agent
        self.workers: int = workers

    def __repr__(self) -> str:
        return f"<DaskNode {self.name}: {self.workers} workers>"

    @property
    def name(self) -> str:
        """The address of the Dask worker."""
        return self._route.worker

    # --- Any thread -------------------------------------------------------------------------

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> Future[list[bytes]]:
        """Hand a message over, with data that the node has not."""
        return self._connection.run(self._give(next(self._turns), message, blobs))

    def collect(self) -> Future[list[bytes]]:
        """Wait there for results, for some seconds at most."""
        return self._connection.run(self._call("collect"))

    def release(self) -> None:
        """Give the worker back to Dask: the agent ends."""
        self._release(self)

    # --- The client's loop ------------------------------------------------------------------

    def mark_gone(self, reason: str) -> None:
        """Fail the calls under way, and all others."""
        if not self._gone.done():
            self._gone.set_result(reason)

    async def _give(self, turn: int, message: bytes, blobs: list[tuple[int, Any]]) -> list[bytes]:
        data = [(number, await self._bring(number, blob)) for number, blob in blobs]
        return await self._call("give", turn, serialized(message), data)

    async def _bring(self, number: int, blob: Blob) -> Any:
        """Let Dask bring data to the worker, where `give` finds them, or return them."""
        if not (blob.large and self._route.direct):
            return serialized(blob.data)
        key = f"garrison-blob-{next(_numbers)}-{self.agent}"
        try:
            stored = await blob.stored(self._connection, self.name)
            arguments = (keep_blob, stored, self.agent, number)
            kept = self._connection.submit(*arguments, key=key, worker=self.name)
            await self._unless_gone(kept.result())
        except ConnectionError:
            raise
        except Exception:  # the worker that had them is gone, and with it what Dask knew of them
            return serialized(blob.data)
        return None

    async def _call(self, method: str, *arguments: Any) -> list[bytes]:
        try:
            call = self._route.call_agent(self.agent, method, *arguments)
            replies: list[bytes] = await self._unless_gone(call)
        except Exception as error:
            if not self._gone.done():
                await self._failed(self.name, f"a call to its Dask worker failed: {error}")
            raise
        return replies

    async def _unless_gone(self, call: Any) -> Any:
        task = asyncio.ensure_future(call)
        await asyncio.wait((task, self._gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        raise ConnectionError(f"{self.name}: {self._gone.result()}")
