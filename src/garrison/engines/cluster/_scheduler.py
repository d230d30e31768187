"""Which node gets how many tasks: the decisions of the two levels, without any I/O.

Nodes pull: each has a window of tasks that it may have at the same time, and gets more as it brings
results. The window is one task for each worker, and what the node ends during the time that it
takes to bring more:

    window = workers + rate * horizon

So a node of long tasks has none that waits behind another, and a node of tiny ones gets a batch of
them in each message. The rate is measured while all workers of the node are busy. At first it is
unknown; then each batch shows that a larger one is worth it, and a few messages are enough.

At the end of the work no node gets more than its share of what is left (guided self-scheduling,
Polychronopoulos and Kuck 1987), and a node without work has others give back what they have not
begun. The simulation in the tests runs this class for thousands of workers.
"""

from __future__ import annotations

from garrison._typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_GIVES", "NodeState", "Scheduler"]

HORIZON_S = 0.025
"""Seconds of work that a node has beyond its running tasks: some times a message's way and back."""
MESSAGE_S = 0.0002
"""Seconds of the driver for a message: nodes gather results for as long as it needs for a message
of each of them, as long as none of their workers waits."""
MAX_AHEAD = 2048
"""The most tasks, for each worker, that a node has beyond its running ones."""
MAX_BYTES = 64 << 20
"""Bytes of arguments from which a node gets no more than one task for each worker."""
MAX_GIVES = 2
"""Messages with tasks on their way to one node: further tasks wait for the next, and share it."""
SMOOTHING = 0.5
"""Weight of the newest measurement of a node's rate."""
LEAST_INTERVAL_S = 0.001
"""Seconds that a measurement takes at least."""


class NodeState:
    """What the scheduler knows of a node.

    Parameters
    ----------
    name : str
        Its name.
    workers : int
        Its workers.
    """

    def __init__(self, name: str, workers: int) -> None:
        self.name: str = name
        self.workers: int = workers
        self.out: dict[int, tuple[Any, int]] = {}
        """The tasks that it has, and their bytes, in the order in which it got them."""
        self.bytes: int = 0
        """Bytes of their arguments."""
        self.gives: int = 0
        """Messages with tasks that are on their way."""
        self.recalled: int = 0
        """Tasks that it was asked to give back."""
        self.rate: float | None = None
        """Tasks that it ends in a second while all its workers are busy."""
        self._since: float | None = None
        self._ended = 0

    def window(self, horizon: float) -> int:
        """Return how many tasks it may have, with so many seconds of work ahead."""
        if self.bytes > MAX_BYTES:
            return self.workers
        if self.rate is None:
            return 2 * self.workers
        # Rounded: of long tasks none waits behind another.
        ahead = int(self.rate * horizon + 0.5)
        return self.workers + min(ahead, MAX_AHEAD * self.workers)

    def measure(self, ended: int, now: float) -> None:
        """Note that tasks have ended, before they leave `out`."""
        busy = len(self.out) >= self.workers
        if self._since is None or not busy:
            self._since, self._ended = (now if busy else None), 0
            return
        self._ended += ended
        seconds = now - self._since
        if self._ended < self.workers or seconds < LEAST_INTERVAL_S:
            # A few tasks that end together say nothing.
            return
        rate = self._ended / seconds
        self.rate = rate if self.rate is None else self.rate + SMOOTHING * (rate - self.rate)
        self._since, self._ended = now, 0


class Scheduler:
    """Distributes tasks over nodes. Tasks are any objects, each under a number of its own."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.workers: int = 0
        """Workers of all nodes."""

    @property
    def linger(self) -> float:
        """Seconds that a node may gather results, while it has tasks for all its workers."""
        return MESSAGE_S * len(self.nodes)

    # --- Nodes ------------------------------------------------------------------------------

    def joined(self, name: str, workers: int) -> None:
        """Note that there is another node."""
        self.nodes[name] = NodeState(name, workers)
        self.workers += workers

    def left(self, name: str) -> list[Any] | None:
        """Forget a node; return the tasks that it had, which may have begun there."""
        node = self.nodes.pop(name, None)
        if node is None:
            return None
        self.workers -= node.workers
        return [task for task, _ in node.out.values()]

    # --- Tasks ------------------------------------------------------------------------------

    def shares(self, waiting: int) -> list[tuple[NodeState, int]]:
        """Return how many of the waiting tasks each node gets now.

        Nodes with the fewest tasks for each of their workers come first.
        """
        found: list[tuple[NodeState, int]] = []
        if waiting <= 0:
            return found
        horizon = HORIZON_S + 2 * self.linger
        for node in sorted(self.nodes.values(), key=_load):
            if waiting <= 0:
                break
            if node.gives >= MAX_GIVES:
                continue
            count = min(self._room(node, waiting, horizon), waiting)
            if count > 0:
                found.append((node, count))
                waiting -= count
        return found

    def _room(self, node: NodeState, waiting: int, horizon: float) -> int:
        have = len(node.out)
        # An idle worker gets a task in any case; of what goes beyond that, a node gets its share.
        idle = node.workers - have
        fair = -(-waiting * node.workers // (2 * self.workers))
        return max(idle, min(node.window(horizon) - have, fair))

    def gave(self, node: NodeState, tasks: Iterable[tuple[int, Any, int]]) -> None:
        """Note that a message with these tasks (number, task, bytes) is on its way to a node."""
        node.gives += 1
        for number, task, size in tasks:
            node.out[number] = task, size
            node.bytes += size

    def arrived(self, name: str) -> None:
        """Note that a message with tasks has arrived."""
        node = self.nodes.get(name)
        if node is not None:
            node.gives -= 1

    def ended(self, name: str, numbers: list[int], now: float) -> list[Any]:
        """Note that a node has ended tasks; return each, or None for one that it did not have.

        A node that was given up may still bring results: what it had is with others now.
        """
        node = self.nodes.get(name)
        if node is None:
            return [None] * len(numbers)
        node.measure(len(numbers), now)
        return [self._remove(node, number) for number in numbers]

    def out(self, name: str) -> list[int]:
        """Return the numbers of the tasks that a node has."""
        node = self.nodes.get(name)
        return [] if node is None else list(node.out)

    def find(self, tasks: dict[Any, Any]) -> list[tuple[NodeState, list[tuple[int, Any]]]]:
        """Return the nodes that have some of these tasks: their numbers, and what is with them."""
        found = []
        for node in self.nodes.values():
            out = node.out.items()
            there = [(number, tasks[task]) for number, (task, _) in out if task in tasks]
            if there:
                found.append((node, there))
        return found

    def returned(self, name: str, numbers: list[int]) -> list[Any]:
        """Note that a node gives back tasks that it has not begun; return them."""
        node = self.nodes.get(name)
        if node is None:
            return []
        node.recalled = 0
        found = [self._remove(node, number) for number in numbers]
        return [task for task in found if task is not None]

    @staticmethod
    def _remove(node: NodeState, number: int) -> Any:
        task, size = node.out.pop(number, (None, 0))
        node.bytes -= size
        return task

    def recalls(self, waiting: int) -> list[tuple[NodeState, int]]:
        """Return how many tasks nodes should give back, so that idle workers have some.

        Only if no task waits here: then there is nothing else for them.
        """
        if waiting or len(self.nodes) < 2:  # noqa: PLR2004 - one of them has nobody to give to
            return []
        idle = sum(max(0, node.workers - len(node.out)) for node in self.nodes.values())
        found = []
        for node in sorted(self.nodes.values(), key=_load, reverse=True):
            spare = len(node.out) - node.workers
            if idle <= 0 or spare <= 0:
                break
            if node.recalled or node.gives:
                continue
            # Half of it: the node goes on with the other half meanwhile.
            count = min(idle, -(-spare // 2))
            node.recalled = count
            found.append((node, count))
            idle -= count
        return found


def _load(node: NodeState) -> float:
    return len(node.out) / node.workers
