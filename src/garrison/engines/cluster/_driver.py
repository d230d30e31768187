"""The driver's thread: it keeps the nodes of a cluster busy.

All that happens is an event in its queue: a new task, a reply, a node that joins or leaves. After
each of them it asks the `Scheduler` what to send to whom, so everything that is decided is decided
in one place, and in one order.

A node's loss costs each task that it had one attempt: which of them had begun, nobody can say. As
with a worker's loss, a task without attempts left fails with `WorkerDied`, and all others are given
again, to any node. Nodes make no attempt of their own, since what they know of it is lost with
them. What a lost node may still bring is ignored, since a task has a new number each time
that it is given.
"""

from __future__ import annotations

import pickle
import threading
import time
from functools import partial
from queue import SimpleQueue

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster._messages import BROKEN, MISSING, RESULTS, RETURNED, Batch
from garrison.engines.cluster._results import Failed, item_to_try_again
from garrison.engines.cluster._scheduler import Scheduler
from garrison.errors import EngineLost, PoolBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from garrison.engines.cluster._backend import ClusterBackend
    from garrison.engines.cluster._contract import Cluster, Node
    from garrison.engines.cluster._scheduler import NodeState
    from garrison.engines.cluster._tasks import Job
    from garrison.pool.backends import Task

    Cancels = Sequence[tuple[int, float]]
    """Numbers of tasks to end, each with its grace."""

__all__ = ["NodeDriver"]

MESSAGE_BYTES = 16 << 20
"""Bytes of arguments after which a message is full."""
MAX_BROKEN = 2
"""Nodes whose workers cannot start, with no result in between, until the pool is broken."""
DEMAND_INTERVAL_S = 1.0
"""Seconds between two hints to the cluster."""


class _NodeLink:
    """A node as the driver knows it."""

    __slots__ = (
        "blobs",
        "collecting",
        "deaths",
        "dropped",
        "forgotten",
        "functions",
        "node",
    )

    def __init__(self, node: Node) -> None:
        self.node = node
        self.functions: set[int] = set()
        self.blobs: set[int] = set()
        self.forgotten: list[int] = []
        self.dropped: list[int] = []
        """Functions and blobs that it has, and those that it does not know to be over."""
        self.collecting = False
        self.deaths = 0
        """Of workers, so far."""


class NodeDriver:
    """Gives tasks to nodes, and takes their results; it is the `Driver` of a cluster.

    Parameters
    ----------
    cluster : Cluster
        The adapter.
    tasks : ClusterBackend
        Where tasks wait, and end.
    """

    def __init__(self, cluster: Cluster, tasks: ClusterBackend) -> None:
        self._cluster, self._tasks = cluster, tasks
        self._scheduler = Scheduler()
        self._links: dict[str, _NodeLink] = {}
        self._events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._last_number = self._broken_in_a_row = 0
        self._demand = (0, 0.0)
        self._cancelled: dict[Task, float] = {}
        """Tasks that nodes are to end, each with its grace."""
        self._deaths_of_gone = self._retried = 0
        """Deaths of workers on nodes that are gone; attempts that were made again."""
        self._thread = threading.Thread(target=self._drive, name="garrison-cluster", daemon=True)

    @property
    def nodes(self) -> list[NodeState]:
        """What is known of each node."""
        return list(self._scheduler.nodes.values())

    @property
    def losses(self) -> tuple[int, int]:
        """Workers that have died, those of lost nodes too, and attempts that were made again."""
        of_nodes = sum(link.deaths for link in list(self._links.values()))
        return self._deaths_of_gone + of_nodes, self._retried

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which gives no more tasks."""
        self._events.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    # --- What happens, told in any thread -------------------------------------------------------

    def joined(self, node: Node) -> None:
        """Note that there is another node."""
        self._tell(partial(self._joined, node))

    def left(self, name: str, reason: str) -> None:
        """Note that a node is gone."""
        self._tell(partial(self._left, name, reason))

    def lost(self, error: BaseException) -> None:
        """Note that the cluster is gone."""
        if not isinstance(error, PoolBroken):
            error = EngineLost(f"the pool's engine went away: {str(error) or repr(error)}")
        self._tasks.lose(error)

    def idle(self, name: str) -> None:
        """Release a node, unless it has tasks or is the last one."""
        self._tell(partial(self._release_idle, name))

    def cancelled(self, task: Task, grace: float) -> None:
        """Have the node that has a task end it."""
        self._tell(partial(self._note_cancel, task, grace))

    def dropped(self, number: int, stored: Any) -> None:
        """Note that no task will need a blob any more."""
        self._tell(partial(self._dropped, number, stored))

    def forgotten(self, number: int) -> None:
        """Note that no task has a function any more, nor will have."""
        self._tell(partial(self._forgotten, number))

    def _tell(self, event: Callable[[], None]) -> None:
        self._events.put(event)

    def wake(self) -> None:
        """Note that there is another task."""
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
        if self._cancelled:
            # All at once: each is looked for. One that is nowhere has ended meanwhile.
            cancelled, self._cancelled = self._cancelled, {}
            for state, numbers in scheduler.find(cancelled):
                self._give(state, [], 0, numbers)
        for state, count in scheduler.shares(self._tasks.waiting):
            self._give(state, self._tasks.take(count, MESSAGE_BYTES), 0)
        for state, count in scheduler.recalls(self._tasks.waiting):
            self._give(state, [], count)
        for name, link in list(self._links.items()):
            node = scheduler.nodes.get(name)
            if node is None:
                continue
            if link.dropped and not node.gives:
                self._give(node, [], 0)
            if node.out and not link.collecting:
                link.collecting = True
                self._call(link, link.node.collect, self._collected)
        self._hint()

    def _give(self, state: NodeState, tasks: list[Task], recall: int, cancel: Cancels = ()) -> None:
        link = self._links[state.name]
        if not tasks and not recall and not link.dropped and not cancel:
            return
        numbered = []
        for task in tasks:
            self._last_number += 1
            numbered.append((self._last_number, task, task.size))
        self._scheduler.gave(state, numbered)
        message, blobs = self._message(link, numbered, recall, cancel)
        self._call(link, partial(link.node.give, message, blobs), self._given)

    def _message(
        self, link: _NodeLink, tasks: list[tuple[int, Task, int]], recall: int, cancel: Cancels
    ) -> tuple[bytes, list[tuple[int, Any]]]:
        functions: list[tuple[int, bytes]] = []
        blobs: dict[int, Any] = {}
        described = []
        for number, task, _ in tasks:
            job: Job = task.job
            function, options = job.function, job.options
            if function.number not in link.functions:
                link.functions.add(function.number)
                functions.append((function.number, function.pickled))
            for blob in job.blobs:
                if blob.number not in link.blobs:
                    link.blobs.add(blob.number)
                    blobs[blob.number] = blob.stored
            described.append(
                (
                    *(number, function.number, job.kind, job.data, job.buffers),
                    *(task.items, options.timeout),
                )
            )
        forget, link.forgotten = link.forgotten, []
        drop, link.dropped = link.dropped, []
        linger = self._scheduler.linger
        batch = Batch(functions, described, forget, drop, recall, linger, list(cancel))
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
        try:
            replies = [_read(reply) for reply in future.result()]
        except Exception as damage:
            # Results may be in it: to ignore it could mean to wait for them for ever.
            self._failed(link, EngineLost(f"a message of it cannot be read: {damage!r}"))
            return
        answered(link)
        for reply in replies:
            self._receive(link, *reply)

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
            results, link.deaths = content
            self._end_tasks(name, results)
        elif kind == MISSING:
            link.blobs.discard(content)
        elif kind == RETURNED:
            self._tasks.end([], self._scheduler.returned(name, content))
        elif kind == BROKEN:
            why, begun = content
            self._node_broke(link, f"{why} (on node {name})", begun)

    def _node_broke(self, link: _NodeLink, why: str, begun: list[int]) -> None:
        """Give up a node whose workers cannot start; if others cannot either, the pool is broken.

        So it is if an initializer fails. A single node may have a trouble of its own. Tasks that it
        had not `begun` have lost no attempt.
        """
        name = link.node.name
        left = [number for number in self._scheduler.out(name) if number not in begun]
        self._tasks.end([], self._scheduler.returned(name, left))
        self._broken_in_a_row += 1
        if self._broken_in_a_row >= MAX_BROKEN or len(self._links) == 1:
            self._tasks.lose(PoolBroken(why))
        else:
            self._failed(link, PoolBroken(why))

    def _end_tasks(self, name: str, results: list[Any]) -> None:
        tasks = self._scheduler.ended(name, [result[0] for result in results], time.monotonic())
        self._broken_in_a_row = 0
        ended: list[tuple[Task, str, Any]] = []
        again: list[Task] = []
        for task, result in zip(tasks, results, strict=True):
            if task is None:
                continue
            item = item_to_try_again(result[1:])
            if item is not None and self._has_attempt(task, item):
                again.append(task)
            else:
                ended.append((task, name, result[1:]))
        self._tasks.end(ended, again)

    def _has_attempt(self, task: Task, item: int | None) -> bool:
        """Count an attempt that was lost; whether there is another."""
        job: Job = task.job
        has_attempt = job.has_attempt_after_loss(task.items, item)
        self._retried += has_attempt
        return has_attempt

    # --- Nodes --------------------------------------------------------------------------------

    def _joined(self, node: Node) -> None:
        # If it is another one of this name, the first one is gone.
        self._left(node.name, "another node has its name")
        self._links[node.name] = _NodeLink(node)
        self._scheduler.joined(node.name, node.workers)
        self._tasks.nodes_changed(self._scheduler.workers)

    def _left(self, name: str, reason: str) -> None:
        tasks: list[Task] | None = self._scheduler.left(name)
        link = self._links.pop(name, None)
        if link is not None:
            self._deaths_of_gone += link.deaths + link.node.workers
        if tasks is None or self._tasks.is_broken:
            return  # tasks of a cluster that is gone are not a node's loss
        again: list[Task] = []
        over: list[Task] = []
        for task in tasks:
            (again if self._has_attempt(task, None) else over).append(task)
        self._tasks.nodes_changed(self._scheduler.workers)
        failure = Failed(name, reason)
        self._tasks.end([(task, name, failure) for task in over], again)

    def _release_idle(self, name: str) -> None:
        link, state = self._links.get(name), self._scheduler.nodes.get(name)
        if link is not None and state is not None and not state.out and len(self._links) > 1:
            self._left(name, "it had nothing to do")
            link.node.release()

    def _note_cancel(self, task: Task, grace: float) -> None:
        self._cancelled[task] = grace

    def _dropped(self, number: int, stored: Any) -> None:
        for link in self._links.values():
            if number in link.blobs:
                link.blobs.discard(number)
                link.dropped.append(number)
        self._cluster.drop(stored)

    def _forgotten(self, number: int) -> None:
        for link in self._links.values():
            if number in link.functions:
                link.functions.discard(number)
                link.forgotten.append(number)

    def _hint(self) -> None:
        """Tell the cluster now and then how much there is to do."""
        tasks = self._tasks.unfinished
        before, at = self._demand
        now = time.monotonic()
        if tasks != before and (now - at > DEMAND_INTERVAL_S or not tasks):
            self._demand = tasks, now
            self._cluster.demand(tasks)


def _read(reply: bytes) -> tuple[int, Any]:
    """Return kind and content of an agent's message."""
    kind, content = pickle.loads(reply)  # noqa: S301 - written by the agent: see `_messages`
    if kind in {RESULTS, BROKEN}:
        _, _ = content
    elif kind not in {RETURNED, MISSING}:
        raise ValueError(f"there is no message of kind {kind!r}")
    return kind, content


def _nothing() -> None:
    """Wake the thread."""
