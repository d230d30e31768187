"""The driver's side of a cluster: encodes tasks, keeps nodes busy, and decodes results.

One thread talks to the nodes. All that happens is an event in its queue: a new task, a reply, a
node that joins or leaves. After each of them it asks the `Scheduler` what to send to whom, so
everything that is decided is decided in one place, and in one order.

A node's loss costs each task that it had one attempt: which of them had begun, nobody can say. As
with a worker's loss, a task without attempts left fails with `WorkerDied`, and all others go to
other nodes. What a lost node may still bring is ignored, since a task has a new number each time
that it is given.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
from functools import partial
from queue import SimpleQueue

from garrison._pickling import dumps_apart
from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._blobs import Blobs
from garrison.engines.cluster._messages import (
    BROKEN,
    RESULTS,
    RETURNED,
    Batch,
    Setup,
    about,
)
from garrison.engines.cluster._results import (
    Failed,
    decode,
    decode_item,
    is_lost,
    items_of,
    lost_items,
)
from garrison.engines.cluster._scheduler import Scheduler
from garrison.errors import EngineLost, PoolBroken, PoolTerminated
from garrison.pool.backends import (
    ItemBuffer,
    ItemError,
    PayloadKind,
    Task,
    TaskBackend,
    dumps_initializer,
    function_registry,
    unpicklable,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from garrison.engines._engine import PoolSettings
    from garrison.engines.cluster._blobs import Blob
    from garrison.engines.cluster._contract import Cluster, Node
    from garrison.engines.cluster._scheduler import NodeState
    from garrison.options import Options

__all__ = ["ClusterBackend"]

LARGE = 1 << 14
"""Bytes of a buffer from which it stays out of the pickle, and is copied once less."""
LEAST_AHEAD = 4096
"""Tasks of an `imap` that are waiting or at work: enough for a node to get them in batches."""
MESSAGE_BYTES = 16 << 20
"""Bytes of arguments after which a message is full."""
MAX_BROKEN = 2
"""Nodes whose workers cannot start, with no result in between, until the pool is broken."""
DEMAND_INTERVAL_S = 1.0
"""Seconds between two hints to the cluster."""


class _Function:
    """A function that was registered, with its pickle: a node gets it with its first task."""

    __slots__ = ("name", "number", "pickled")

    def __init__(self, number: int, pickled: bytes, name: str) -> None:
        self.number, self.pickled, self.name = number, pickled, name


class _Registered:
    """A function as `register` returns it: with the shared objects that it refers to.

    They live as long as this, or a task with it, does: the function itself is kept longer, in case
    that it is used again.
    """

    __slots__ = ("blobs", "function", "size")

    def __init__(self, function: _Function, blobs: tuple[Blob, ...], size: int) -> None:
        self.function, self.blobs, self.size = function, blobs, size


class _Functions:
    """The functions of a registry, as its `FunctionStore`."""

    def __init__(self) -> None:
        self.pickles: dict[int, bytes] = {}
        self.known: dict[int, _Function] = {}
        self.forgotten: list[int] = []

    def add_function(self, number: int, pickled: bytes) -> None:
        """Keep a function."""
        self.pickles[number] = pickled

    def forget_function(self, number: int) -> None:
        """Let a function go: tasks that have it keep it."""
        self.pickles.pop(number, None)
        self.known.pop(number, None)
        self.forgotten.append(number)


class _Job:
    """What a node needs for a task."""

    __slots__ = ("attempts", "blobs", "buffers", "data", "function", "kind", "options")

    def __init__(
        self,
        function: _Function,
        kind: int,
        encoded: tuple[Any, list[Any] | None],
        blobs: tuple[Blob, ...],
        options: Options,
    ) -> None:
        self.function, self.kind, self.blobs, self.options = function, kind, blobs, options
        self.data, self.buffers = encoded
        self.attempts = 0


class _ClusterTask(Task):
    """A task, which keeps the results of single items if its worker is lost."""

    __slots__ = ()

    def lost(self) -> bool:
        """Whether its worker ended, on a node that goes on."""
        return self.result is not None and is_lost(self.result)


class _NodeLink:
    """A node as the driver knows it."""

    __slots__ = ("blobs", "collecting", "dropped", "forgotten", "functions", "node")

    def __init__(self, node: Node, forgotten: int) -> None:
        self.node = node
        self.functions: set[int] = set()
        self.blobs: set[int] = set()
        self.dropped: list[int] = []
        self.forgotten = forgotten
        """Forgotten functions that it knows of."""
        self.collecting = False


class ClusterBackend(TaskBackend):
    """Runs tasks on the nodes of a cluster.

    Parameters
    ----------
    cluster : Cluster
        The adapter.
    settings : PoolSettings
        The pool's.
    """

    encodes_results: bool = True

    def __init__(self, cluster: Cluster, settings: PoolSettings) -> None:
        super().__init__(settings.processes or 1)
        self.cluster: Cluster = cluster
        self._settings = settings
        self._functions = _Functions()
        self._blobs = Blobs(cluster.put, self._drop_blob)
        self._registry = function_registry(self._functions, self._blobs)
        self._scheduler = Scheduler()
        self._links: dict[str, _NodeLink] = {}
        self._events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._last_number = self._broken_in_a_row = 0
        self._demand = (0, 0.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="garrison-cluster", daemon=True)

    @property
    def tasks_ahead(self) -> int:
        """Tasks that `imap` has waiting or at work at the same time."""
        return max(LEAST_AHEAD, super().tasks_ahead)

    @property
    def busy(self) -> int:
        """Workers that are in a task, as far as the driver knows."""
        nodes = list(self._scheduler.nodes.values())
        return sum(min(len(node.out), node.workers) for node in nodes)

    @property
    def nodes(self) -> dict[str, int]:
        """The nodes of the pool, and the workers of each."""
        return {name: node.workers for name, node in list(self._scheduler.nodes.items())}

    # --- Life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect to the cluster, and wait for its first node."""
        self.cluster.start(self._setup().dumps(), self)
        self._thread.start()
        with self.changed:
            self.changed.wait_for(lambda: self._scheduler.nodes or self._broken)
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
            about(), path, initializer, settings.maxtasksperchild, settings.seed, seed is not None
        )

    def stop(self) -> None:
        """End everything now."""
        super().stop()
        self._end_thread()

    def join(self, seconds: float) -> bool:
        """Wait for the end of all tasks; then release the nodes."""
        if self._broken is None and not super().join(seconds):
            return False
        self._end_thread()
        return True

    def _end_thread(self) -> None:
        self._events.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        if not self._stopped.is_set():
            self._stopped.set()
            self.cluster.stop()

    def check(self) -> None:
        """Raise if no task will ever end any more."""
        if self._terminating:
            raise PoolTerminated("the pool was terminated before this task was over")
        if self._broken is not None:
            raise type(self._broken)(*self._broken.args) from self._broken.__cause__

    # --- Tasks ------------------------------------------------------------------------------

    def register(self, function: Callable[..., Any], options: Options) -> _Registered:  # type: ignore[override] # static there
        """Pickle a function."""
        policy = (options.retries, options.retry_on) if options.retry_on else ()
        registry, functions = self._registry, self._functions
        self._blobs.take_used()
        number = registry.number(function, policy)
        found = functions.known.get(number)
        if found is None:
            found = _Function(number, functions.pickles[number], registry.name(number))
            functions.known[number] = found
        return _Registered(found, self._blobs.take_used(), registry.size(number))

    def _encode(self, value: Any) -> tuple[tuple[bytes, list[Any] | None], tuple[Blob, ...]]:
        rules = self._registry.rules
        self._blobs.take_used()
        try:
            encoded = dumps_apart(value, rules, LARGE, self._blobs.first())
        except Exception as error:
            raise unpicklable(value, "the arguments", error, rules) from error
        return encoded, self._blobs.take_used()

    def submit(
        self, function: Any, kind: PayloadKind, value: Any, options: Options, items: int = 1
    ) -> Task:
        """Queue a task."""
        return self._queue_task(function, kind, self._encode(value), options, items)

    def _queue_task(
        self,
        function: _Registered,
        kind: int,
        encoded: tuple[tuple[Any, list[Any] | None], tuple[Blob, ...]],
        options: Options,
        items: int,
    ) -> Task:
        (data, buffers), blobs = encoded
        size = sum(map(len, data)) if kind == PayloadKind.PICKLED_ITEMS else len(data)
        # Views of the caller's memory, which it may change from now on.
        copies = None if not buffers else [bytearray(view) for view in buffers]
        size += sum(map(len, copies or ()))
        blobs = (*function.blobs, *blobs)
        job = _Job(function.function, int(kind), (data, copies), blobs, options)
        return self._put(_ClusterTask(self, job, items, size))

    def _put(self, task: Task) -> Task:
        with self.changed:
            self._queue.append(task)
        self._wake()
        return task

    def item_buffer(self, chunksize: int) -> ItemBuffer:  # type: ignore[override] # static there
        """Return a buffer that encodes items."""
        return ItemBuffer(chunksize, self._encode_item)

    def _encode_item(self, value: Any) -> Any:
        try:
            return self._encode(value)
        except Exception as error:
            return ItemError(error)

    def submit_items(self, function: Any, items: Any, options: Options) -> Task:
        """Queue a task for encoded items, each with an outcome of its own."""
        if len(items) == 1:
            return self._queue_task(function, PayloadKind.ONE_ITEM, items[0], options, 1)
        if any(buffers for (_, buffers), _ in items):
            items = [self._encode_inside(*each) for each in items]
        data = [data for (data, _), _ in items]
        blobs = tuple(blob for _, used in items for blob in used)
        return self._queue_task(
            function, PayloadKind.PICKLED_ITEMS, ((data, None), blobs), options, len(items)
        )

    def _encode_inside(self, encoded: Any, blobs: Any) -> Any:
        """Encode an item again with its buffers in the pickle: a payload of items has no others."""
        data, buffers = encoded
        value = pickle.loads(data, buffers=buffers)  # noqa: S301 - written by `_encode`
        return (dumps_apart(value, self._registry.rules, sys.maxsize)[0], None), blobs

    def encode_chunk(self, items: list[Any]) -> Any:  # type: ignore[override] # static there
        """Pickle several items together."""
        return self._encode(items)

    def submit_chunk(self, function: Any, chunk: Any, count: int, options: Options) -> Task:
        """Queue a task for items that are one pickle, each with an outcome of its own."""
        return self._queue_task(function, PayloadKind.LISTED_ITEMS, chunk, options, count)

    # --- What the cluster tells -----------------------------------------------------------------

    def joined(self, node: Node) -> None:
        """Note that there is another node."""
        self._tell(partial(self._joined, node))

    def left(self, name: str, reason: str) -> None:
        """Note that a node is gone."""
        self._tell(partial(self._left, name, reason))

    def lost(self, error: BaseException) -> None:
        """Note that the cluster is gone."""
        if not isinstance(error, PoolBroken):
            error = EngineLost(f"the pool's engine went away: {error}")
        self._break(error)

    def _drop_blob(self, number: int, stored: Any) -> None:
        self._tell(partial(self._dropped, number, stored))

    def _tell(self, event: Callable[[], None]) -> None:
        self._events.put(event)

    def _wake(self) -> None:
        # An event that is there is handled later than what was done before.
        if self._events.empty():
            self._events.put(_nothing)

    # --- The thread -----------------------------------------------------------------------------

    def _drive(self) -> None:
        try:
            while True:
                event = self._events.get()
                while event is not None:
                    event()
                    if self._events.empty():
                        break
                    event = self._events.get()
                if event is None:
                    return
                self._send()
        except BaseException as error:
            self.lost(error)
            raise

    def _send(self) -> None:
        """Give nodes what they should have."""
        scheduler = self._scheduler
        for state, count in scheduler.shares(self.waiting):
            self._give(state, self._take_tasks(count), 0)
        for state, count in scheduler.recalls(self.waiting):
            self._give(state, [], count)
        for name, link in list(self._links.items()):
            node = scheduler.nodes.get(name)
            if node is not None and node.out and not link.collecting:
                link.collecting = True
                self._call(link, link.node.collect, self._collected)
        self._hint()

    def _take_tasks(self, count: int) -> list[Task]:
        found: list[Task] = []
        size = 0
        with self.changed:
            while len(found) < count and size < MESSAGE_BYTES:
                task = self._next()
                if task is None:
                    break
                found.append(task)
                size += task.size
        return found

    def _give(self, state: NodeState, tasks: list[Task], recall: int) -> None:
        if not tasks and not recall:
            return
        link = self._links[state.name]
        numbered = []
        for task in tasks:
            self._last_number += 1
            numbered.append((self._last_number, task, task.size))
        self._scheduler.gave(state, numbered)
        message, blobs = self._message(link, numbered, recall)
        self._call(link, partial(link.node.give, message, blobs), self._given)

    def _message(
        self, link: _NodeLink, tasks: list[tuple[int, Task, int]], recall: int
    ) -> tuple[bytes, list[tuple[int, Any]]]:
        functions: list[tuple[int, bytes]] = []
        blobs: dict[int, Any] = {}
        described = []
        for number, task, _ in tasks:
            job: _Job = task.job
            function, options = job.function, job.options
            if function.number not in link.functions:
                link.functions.add(function.number)
                functions.append((function.number, function.pickled))
            for blob in job.blobs:
                if blob.number not in link.blobs:
                    link.blobs.add(blob.number)
                    blobs[blob.number] = blob.stored
            left = max(0, options.retries - job.attempts)
            described.append(
                (
                    *(number, function.number, job.kind, job.data, job.buffers),
                    *(task.items, left, options.timeout),
                )
            )
        forgotten = self._functions.forgotten[link.forgotten :]
        link.forgotten += len(forgotten)
        forget = [number for number in forgotten if number in link.functions]
        link.functions.difference_update(forget)
        drop, link.dropped = link.dropped, []
        batch = Batch(functions, described, forget, drop, recall, self._scheduler.linger)
        return pickle.dumps(tuple(batch), 5), list(blobs.items())

    def _call(
        self,
        link: _NodeLink,
        call: Callable[[], Future[list[bytes]]],
        answered: Callable[[_NodeLink], None],
    ) -> None:
        try:
            future = call()
        except Exception as error:
            self._tell(partial(self._failed, link, error))
            return
        future.add_done_callback(
            lambda done: self._tell(partial(self._answered, link, done, answered))
        )

    def _answered(
        self, link: _NodeLink, future: Future[list[bytes]], answered: Callable[[_NodeLink], None]
    ) -> None:
        if self._links.get(link.node.name) is not link:
            return  # it was given up: what it had is with others
        error = future.exception() if not future.cancelled() else EngineLost("it was cancelled")
        if error is not None:
            self._failed(link, error)
            return
        answered(link)
        for reply in future.result():
            self._receive(link, *pickle.loads(reply))  # noqa: S301 - written by the agent: see `_messages`

    def _given(self, link: _NodeLink) -> None:
        self._scheduler.arrived(link.node.name)

    def _collected(self, link: _NodeLink) -> None:
        link.collecting = False

    def _failed(self, link: _NodeLink, error: BaseException) -> None:
        if self._links.get(link.node.name) is link:
            self._left(link.node.name, str(error) or repr(error))
            link.node.release()

    def _receive(self, link: _NodeLink, kind: int, content: Any) -> None:
        name = link.node.name
        if kind == RESULTS:
            self._end_tasks(name, content)
        elif kind == RETURNED:
            tasks = self._scheduler.returned(name, content)
            with self.changed:
                self._put_back(tasks)
        elif kind == BROKEN:
            self._node_broke(link, f"{content[1]} (on node {name})")

    def _node_broke(self, link: _NodeLink, why: str) -> None:
        """Give up a node whose workers cannot start; if others cannot either, the pool is broken.

        So it is if an initializer fails. A single node may have a trouble of its own.
        """
        self._broken_in_a_row += 1
        if self._broken_in_a_row >= MAX_BROKEN or len(self._links) == 1:
            self._break(PoolBroken(why))
        else:
            self._failed(link, PoolBroken(why))

    def _end_tasks(self, name: str, results: list[Any]) -> None:
        tasks = self._scheduler.ended(name, [result[0] for result in results], time.monotonic())
        self._broken_in_a_row = 0
        with self.changed:
            for task, result in zip(tasks, results, strict=True):
                if task is not None:
                    job: _Job = task.job
                    self._end(task, (name, job.function.name, job.kind, job.data, result[1:]))
            self.changed.notify_all()

    # --- Nodes --------------------------------------------------------------------------------

    def _joined(self, node: Node) -> None:
        # If it is another one of this name, the first one is gone.
        self._left(node.name, "another node has its name")
        self._links[node.name] = _NodeLink(node, len(self._functions.forgotten))
        self._scheduler.joined(node.name, node.workers)
        with self.changed:
            self.parallelism = max(1, self._scheduler.workers)
            self.changed.notify_all()

    def _left(self, name: str, reason: str) -> None:
        tasks: list[Task] | None = self._scheduler.left(name)
        self._links.pop(name, None)
        if tasks is None or self._broken is not None:
            return  # tasks of a cluster that is gone are not a node's loss
        again: list[Task] = []
        over: list[Task] = []
        for task in tasks:
            job: _Job = task.job
            job.attempts += 1
            (over if job.attempts > job.options.retries else again).append(task)
        with self.changed:
            self.parallelism = max(1, self._scheduler.workers)
            self._put_back(again)
            for task in over:
                job = task.job
                failure = Failed(name, reason)
                self._end(task, (name, job.function.name, job.kind, job.data, failure))
            self.changed.notify_all()

    def _dropped(self, number: int, stored: Any) -> None:
        for link in self._links.values():
            if number in link.blobs:
                link.blobs.discard(number)
                link.dropped.append(number)
        self.cluster.drop(stored)

    def _hint(self) -> None:
        """Tell the cluster now and then how much there is to do."""
        tasks = len(self._queue) + self._running
        before, at = self._demand
        now = time.monotonic()
        if tasks != before and (now - at > DEMAND_INTERVAL_S or not tasks):
            self._demand = tasks, now
            self.cluster.demand(tasks)

    # --- Results --------------------------------------------------------------------------------

    def decode(self, raw: Any) -> tuple[bool, Any, int]:
        """Decode a raw result: (success, value or exception, nanoseconds)."""
        return decode(raw)

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
        return not is_lost(task.result) or lost_items(task.result)[2]


def _nothing() -> None:
    """Wake the thread."""
