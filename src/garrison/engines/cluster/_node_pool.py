"""The process that is a node's pool: it takes batches from the agent, and brings results.

It is a process of its own, started anew: the agent's process belongs to the cluster, has threads
and connections of the cluster, and must not be forked. When the agent goes away, however it does,
the connection ends, and so does this process with its pool.

::

    agent ──▶ reader thread ──▶ pool of processes ──▶ main thread ──▶ agent
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from functools import lru_cache
from hashlib import blake2b
from multiprocessing.connection import Connection
from types import SimpleNamespace

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._blobs import BlobTable, use_table
from garrison.engines.cluster._messages import (
    BROKEN,
    ITEMS,
    LOST,
    MISSING,
    OPENED,
    RAW,
    READY,
    RESULTS,
    RETURNED,
    TASKS,
    UNLOADED,
    VALUE,
    Batch,
    Pickled,
    Setup,
)
from garrison.errors import GarrisonError, SharedMemoryFull
from garrison.options import Options
from garrison.pool.backends import (
    Outcome,
    PayloadKind,
    PickledResult,
    encode_error,
    forked_backend,
    joined_items,
    run_initializer,
    worker_slot,
)

if TYPE_CHECKING:
    from garrison._core import TaskHandle

__all__ = ["main"]

_APART = PayloadKind.PICKLED_ITEMS, PayloadKind.LISTED_ITEMS
"""Kinds of tasks whose items have an outcome each."""
_ENCODED = Outcome.OK, Outcome.ERROR
DEVICES = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
"""Where a cluster says which GPUs are a process's own, as a list with commas."""


class NodePool:
    """A local pool that runs what arrives over a connection."""

    def __init__(
        self, connection: Connection, setup: Setup, workers: int, seed: int | None
    ) -> None:
        self._connection = connection
        self._blobs = BlobTable()
        start = _begin, (self._blobs, workers, setup.initializer)
        self._backend = forked_backend(workers, start, setup.maxtasks, seed)
        self._running = self._backend.running_tasks()
        self._waiting: dict[int, TaskHandle] = {}
        self._failed: deque[tuple[Any, ...]] = deque()
        self._sending = threading.Lock()
        self._giving_back = threading.Lock()
        self._linger = 0.0
        self._over = False

    def serve(self) -> None:
        """Run tasks until the agent goes away."""
        try:
            self._backend.start()
            self._send(READY, None)
            threading.Thread(target=self._read, name="garrison-node-reader", daemon=True).start()
            while not self._over:
                self._report()
        except GarrisonError as error:
            # No worker can start: the initializer fails, for example.
            waiting = list(self._waiting.items())
            begun = [number for number, task in waiting if not task.withdraw()]
            with contextlib.suppress(OSError):
                self._send(BROKEN, (str(error), begun))
        except OSError:
            pass  # the agent is gone
        finally:
            self._backend.stop()

    def _send(self, kind: int, content: Any) -> None:
        message = pickle.dumps((kind, content))
        with self._sending:  # results by one thread, tasks that go back by another
            self._connection.send_bytes(message)

    # --- Tasks ------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while True:
                frame = self._connection.recv_bytes()
                if frame[:1] == TASKS:
                    self._take(Batch(*pickle.loads(memoryview(frame)[1:])))  # noqa: S301 - written by the agent
                else:
                    number, address = pickle.loads(memoryview(frame)[1:])  # noqa: S301 - written by the agent
                    try:
                        self._blobs.keep(number, address)
                    except SharedMemoryFull:
                        # Tasks that open it fail, and say so; it comes again with the next.
                        self._send(MISSING, number)
                    with self._sending:
                        self._connection.send_bytes(OPENED + str(number).encode())
        except (EOFError, OSError):
            pass
        finally:
            self._over = True
            self._backend.interrupt_waits()

    def _take(self, batch: Batch) -> None:
        parent, self._linger = self._backend.parent, batch.linger
        for number, pickled in batch.functions:
            parent.add_function(number, pickled)
        for task in batch.tasks:
            self._submit(*task)
        if batch.recall:
            self._give_back(batch.recall)
        for number, grace in batch.cancel:
            self._cancel(number, grace)
        for number in batch.forget:
            parent.forget_function(number)
        for number in batch.drop:
            self._blobs.drop(number)
        self._backend.interrupt_waits()

    def _submit(
        self,
        number: int,
        function: int,
        kind: int,
        data: Any,
        buffers: list[Any] | None,
        items: int,
        timeout: float | None,
    ) -> None:
        options = _options(timeout)
        known: Any = SimpleNamespace(number=function)
        payload = joined_items(data) if kind == PayloadKind.PICKLED_ITEMS else data
        views = None if buffers is None else [memoryview(each) for each in buffers]
        try:
            task = self._backend.submit_encoded(
                known, PayloadKind(kind), payload, views, options, items
            )
        except Exception as error:  # there is no memory for its buffers, for example
            self._failed.append((number, RAW, Outcome.ERROR, encode_error(error), None, 0))
            return
        self._waiting[number] = task
        self._running.add(task, (number, kind, task))

    def _cancel(self, number: int, grace: float) -> None:
        """Cancel a task. It is over for the driver, which waits for a word of each."""
        with self._giving_back:
            task = self._waiting.get(number)
            if task is None or not self._backend.cancel(task, grace):
                return
            del self._waiting[number]
        self._failed.append((number, RAW, int(Outcome.ERROR), b"", None, 0))

    def _give_back(self, count: int) -> None:
        """Give back the tasks that arrived last, as far as no worker has begun them."""
        found: list[int] = []
        for number in reversed(list(self._waiting)):
            if len(found) == count:
                break
            with self._giving_back:
                task = self._waiting.get(number)
                if task is not None and task.withdraw():
                    del self._waiting[number]
                    found.append(number)
        self._send(RETURNED, found)

    # --- Results ----------------------------------------------------------------------------

    def _report(self) -> None:
        """Wait for results, and send those that are there."""
        seen = self._backend.interrupts
        ended: list[Any] = []
        if not self._running.collect(ended) and not self._failed:
            self._backend.wait_any(self._running, None, seen)
            if len(self._waiting) > self._backend.parallelism:
                time.sleep(self._linger)
            return
        results = [result for each in ended if (result := self._result(*each)) is not None]
        while self._failed:
            results.append(self._failed.popleft())
        if results:
            self._send(RESULTS, (results, self._backend.table.losses))

    def _result(self, number: int, kind: int, task: TaskHandle) -> tuple[Any, ...] | None:
        with self._giving_back:
            if self._waiting.pop(number, None) is None:
                return None
        lost = None
        if task.lost():
            _, _, index, _ = task.call()
            lost = index, [_plain(each) for each in task.recover()], task.has_begun()
        is_unloaded = lost is None and kind == PayloadKind.LISTED_ITEMS and not task.has_begun()
        taken = SimpleNamespace(_outcome=None, _raw=None, brought=None)
        if kind in _APART:
            task.take_items_into(taken)
            results, taken._raw, _, duration = taken.brought
            if results is not None:
                return number, ITEMS, [_plain(each) for each in results], duration
        else:
            task.take_into(taken)
            if taken._outcome is not None:
                return number, VALUE, taken._outcome[1]
        _, outcome, payload, buffers, duration, _ = taken._raw
        if lost is not None and outcome == Outcome.LOST:
            return number, LOST, bytes(payload), *lost
        if outcome not in _ENCODED:
            # Of this machine's memory: the error is made here, and sent as one of the task.
            error = self._backend.decode(taken._raw)[1]
            return number, RAW, int(Outcome.ERROR), encode_error(error), None, duration
        copies = None if buffers is None else [bytearray(view) for view in buffers]
        encoded = UNLOADED if is_unloaded else RAW
        return number, encoded, int(outcome), bytes(payload), copies, duration


@lru_cache(maxsize=64)
def _options(timeout: float | None) -> Options:
    """Return the options of a task. It is the driver that has it tried again."""
    return Options(timeout=timeout)


def _plain(entry: Any) -> Any:
    """Return an item's result as it is sent: a plain value, or a pickle in a tuple of its own."""
    if isinstance(entry, PickledResult):
        return Pickled(entry.succeeded, bytes(entry.pickle))
    return entry


def node_seed(seed: int, name: str) -> int:
    """Return the seed of a node's pool: the workers of all nodes differ."""
    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def _begin(table: BlobTable, workers: int, initializer: bytes | None) -> Any:
    """Begin a worker: find blobs, take its devices, and call the user's initializer."""
    use_table(table)
    _take_devices(worker_slot(), workers)
    return None if initializer is None else run_initializer(initializer)


def _take_devices(slot: int, workers: int) -> None:
    """Leave a worker its share of the devices that the cluster has given to the node.

    Without it all workers of a node would use the first of its GPUs.
    """
    for name in DEVICES:
        devices = os.environ.get(name, "").split(",")
        first = slot * len(devices) // workers
        last = max(first + 1, (slot + 1) * len(devices) // workers)
        if devices != [""]:
            os.environ[name] = ",".join(devices[first:last])


def main() -> None:
    """Run a node's pool; the descriptor of the connection is the argument."""
    # A terminal's Ctrl-C is for the driver, which ends this process through its agent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        first = connection.recv_bytes()
    except (EOFError, OSError):
        return  # the agent is gone already
    data, workers, name, number = pickle.loads(first)  # noqa: S301 - written by the agent
    setup = Setup.loads(data)
    sys.path += [place for place in setup.path if place not in sys.path]
    with contextlib.suppress(OSError):
        os.chdir(setup.folder)
    sys.argv[1:] = []
    seed = node_seed(setup.seed, name if number is None else str(number)) if setup.seeded else None
    NodePool(connection, setup, workers, seed).serve()
    os._exit(0)  # the reader may be in a call of the connection
