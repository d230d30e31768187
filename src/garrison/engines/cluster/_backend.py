"""The backend of a pool over a cluster: it encodes tasks and decodes results.

Between the two, tasks wait in its queue for the thread of the `NodeDriver`, which gives them to
nodes and ends them here.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial

from garrison._pickling import dumps_apart
from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._blobs import Blobs
from garrison.engines.cluster._driver import NodeDriver
from garrison.engines.cluster._messages import Setup, about
from garrison.engines.cluster._results import (
    decode,
    decode_item,
    has_begun,
    is_failure,
    items_of,
    lost_items,
)
from garrison.engines.cluster._tasks import ClusterTask, Functions, Job, Registered
from garrison.pool.backends import (
    EncodingBackend,
    ItemBuffer,
    ItemError,
    PayloadKind,
    Task,
    call_policy,
    dumps_initializer,
    function_registry,
    unpicklable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.engines._engine import PoolSettings
    from garrison.engines.cluster._blobs import Blob
    from garrison.engines.cluster._contract import Cluster
    from garrison.options import Options

    Encoded = tuple[bytes, "list[Any] | None", tuple[Blob, ...]]
    """A pickle, its large buffers, and the blobs that it refers to."""

__all__ = ["ClusterBackend"]

LARGE = 1 << 14
"""Bytes of a buffer from which it stays out of the pickle, and is copied once less."""
LEAST_AHEAD = 4096
"""Tasks of an `imap` that are waiting or at work: enough for a node to get them in batches."""


class ClusterBackend(EncodingBackend):
    """Runs tasks on the nodes of a cluster.

    Parameters
    ----------
    cluster : Cluster
        The adapter.
    settings : PoolSettings
        The pool's.
    """

    def __init__(self, cluster: Cluster, settings: PoolSettings) -> None:
        super().__init__(settings.processes or 1)
        self.cluster: Cluster = cluster
        self._settings = settings
        self._driver = NodeDriver(cluster, self)
        self._functions = Functions(self._driver.forgotten)
        self._blobs = Blobs(cluster.put, self._driver.dropped)
        self._registry = function_registry(self._functions, self._blobs)
        self._registering = threading.RLock()
        self._releasing = threading.RLock()
        self._is_released = False

    @property
    def tasks_ahead(self) -> int:
        """Tasks that `imap` has waiting or at work at the same time."""
        return max(LEAST_AHEAD, super().tasks_ahead)

    @property
    def busy(self) -> int:
        """Workers that are in a task, as far as the driver knows."""
        return sum(min(len(node.out), node.workers) for node in self._driver.nodes)

    def state(self) -> dict[str, Any]:
        """Return the fields of `Statistics`, as far as nodes have told."""
        deaths, retried = self._driver.losses
        return {**super().state(), "deaths": deaths, "retried": retried}

    @property
    def nodes(self) -> dict[str, int]:
        """The nodes of the pool, and the workers of each."""
        return {node.name: node.workers for node in self._driver.nodes}

    # --- Life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect to the cluster, and wait for its first node."""
        self.cluster.start(self._setup().dumps(), self._driver)
        self._driver.start()
        with self.changed:
            self.changed.wait_for(lambda: self._driver.nodes or self._over)
        self.check()

    def _setup(self) -> Setup:
        settings = self._settings
        initializer = None
        if settings.initializer is not None:
            args = tuple(settings.initargs)
            initializer = dumps_initializer(self._registry, settings.initializer, args)
        seed = settings.options.seed
        path = [place for place in sys.path if place]
        return Setup(
            versions=about(),
            path=path,
            folder=_working_directory(),
            initializer=initializer,
            maxtasks=settings.maxtasksperchild,
            seed=settings.seed,
            seeded=seed is not None,
        )

    def stop(self) -> None:
        """End everything now."""
        super().stop()
        self._release()

    def join(self, seconds: float) -> bool:
        """Wait for the end of all tasks; then release the nodes."""
        # An interrupt may have come between a task and the driver's waking.
        self._driver.wake()
        if self._broken is None and not super().join(seconds):
            return False
        self._release()
        return True

    def _release(self) -> None:
        self._driver.stop()
        with self._releasing:
            if not self._is_released:
                self.cluster.stop()
                # Last: after an interrupt the next call does the rest.
                self._is_released = True

    # --- Tasks ------------------------------------------------------------------------------

    def register(self, function: Callable[..., Any], options: Options) -> Registered:  # type: ignore[override] # static there
        """Pickle a function."""
        policy = call_policy(options, function)
        registry, outer = self._registry, self._blobs.begin()
        try:
            with self._registering:  # a number may be forgotten for another thread's function
                number = registry.number(function, policy)
                found = self._functions.function(number, registry.name)
                size = registry.size(number)
        finally:
            blobs = self._blobs.end(outer)
        return Registered(found, blobs, size)

    def encode(self, value: Any) -> Encoded:
        """Pickle arguments; large buffers, and the memory of shared objects, come beside it."""
        return self._encode(value, LARGE)

    def _encode(self, value: Any, large: int) -> Encoded:
        rules, outer = self._registry.rules, self._blobs.begin()
        try:
            encoded = dumps_apart(value, rules, large, self._blobs.first())
        except Exception as error:
            raise unpicklable(value, "the arguments", error, rules) from error
        finally:
            blobs = self._blobs.end(outer)
        return *encoded, blobs

    def item_buffer(self, chunksize: int) -> ItemBuffer:  # type: ignore[override] # static there
        """Return a buffer that encodes items.

        Items that share a task have their buffers in their pickles: the source may change an item's
        memory when it is asked for the next.
        """
        large = LARGE if chunksize == 1 else sys.maxsize
        return ItemBuffer(chunksize, partial(self._encode_item, large=large))

    def _encode_item(self, value: Any, large: int = LARGE) -> Any:
        try:
            return self._encode(value, large)
        except Exception as error:
            return ItemError(error)

    def _put_encoded(
        self, function: Registered, kind: PayloadKind, data: Any, options: Options, items: int
    ) -> Task:
        pickled: Any
        if kind == PayloadKind.PICKLED_ITEMS and len(data) == 1:
            kind, data = PayloadKind.ONE_ITEM, data[0]
        if kind == PayloadKind.PICKLED_ITEMS:
            pickled = [each[0] for each in data]
            buffers, size = None, sum(map(len, pickled))
            blobs = tuple(blob for each in data for blob in each[2])
        else:
            pickled, buffers, blobs = data
            size = len(pickled)
        # Views of the caller's memory, which it may change from now on.
        copies = None if not buffers else [bytearray(view) for view in buffers]
        size += sum(map(len, copies or ()))
        blobs = (*function.blobs, *blobs)
        job = Job(function.function, int(kind), (pickled, copies), blobs, options)
        return self._put(ClusterTask(self, job, items, size))

    def _put(self, task: Task) -> Task:
        self._check_process()
        with self.changed:
            self._queue.append(task)
        self._driver.wake()
        return task

    def cancel(self, task: Task, grace: float) -> bool:
        """Withdraw a task, or have its node end it."""
        if super().cancel(task, grace):
            return True
        with self.changed:
            if task.ended():
                return False
            task.cancel()
            self.changed.notify_all()
        self._driver.cancelled(task, grace)
        return True

    # --- For the driver -------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Tasks that wait or run."""
        return len(self._queue) + self._running

    def take(self, count: int, most: int) -> list[Task]:
        """Take so many tasks at most, and no more once they have so many bytes."""
        found: list[Task] = []
        size = 0
        with self.changed:
            while len(found) < count and size < most:
                task = self._next()
                if task is None:
                    break
                found.append(task)
                size += task.size
        return found

    @property
    def is_broken(self) -> bool:
        """Whether no task will end any more."""
        return self._broken is not None

    def end(self, results: list[tuple[Task, str, Any]], again: Iterable[Task] = ()) -> None:
        """End tasks, each with its node and its result; let others wait again, before all else."""
        with self.changed:
            self._put_back(list(again))
            for task, name, result in results:
                job: Job = task.job
                self._end(task, (name, job.function.name, job.kind, job.data, result))
            self.changed.notify_all()

    def nodes_changed(self, workers: int) -> None:
        """Note how many workers there are."""
        with self.changed:
            self.parallelism = max(1, workers)
            self.changed.notify_all()

    # --- Results --------------------------------------------------------------------------------

    def decode(self, raw: Any) -> tuple[Any, ...]:
        """Decode a raw result: (success, value or exception, nanoseconds)."""
        return decode(raw)

    def is_failure(self, raw: Any) -> bool:
        """Whether a raw result is that of a failed task."""
        return is_failure(raw)

    def items_of(self, raw: Any) -> tuple[list[Any] | None, Any, int, int]:
        """Return a raw result of several items as `TaskHandle.take_items_into` gives it."""
        return items_of(raw)

    @staticmethod
    def decode_items(encoded: list[Any]) -> list[Any]:
        """Decode results of items; a failed one is an `ItemError`."""
        return [decode_item(each) for each in encoded]

    @staticmethod
    def finished_items(task: Task) -> list[Any]:
        """Return the encoded results so far of a lost task."""
        return lost_items(task.result)[0]

    @staticmethod
    def failed_item(task: Task) -> int:
        """Return the index of the item during which a lost task's worker ended."""
        return lost_items(task.result)[1]

    @staticmethod
    def has_begun(task: Task) -> bool:
        """Whether an item of an ended chunk was begun: else its items could not be decoded."""
        return has_begun(task.result)


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - goes as text
    except OSError:  # it was removed
        return ""
