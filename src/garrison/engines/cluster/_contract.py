"""What an adapter of a cluster implements: it starts an agent on each node, and reaches it.

::

    driver                                         node
    ──────                                         ────
    Cluster.start(setup, driver)
       driver.joined(Node)       ◀── starts ──▶    Agent(setup, workers)
    Node.give(message, blobs)    ──────────▶       Agent.give(message, blobs)   returns at once
    Node.collect()               ──────────▶       Agent.collect(seconds)       waits for results
       driver.left(name, why)    ◀── is gone

All messages are bytes that only the driver and the agent understand. An adapter moves them, and
never unpickles them.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from garrison._typing import Any

__all__ = ["Cluster", "Driver", "Node"]

Replies = list[bytes]
"""Messages from an agent, in their order."""


class Node(Protocol):
    """An agent on a node, as the driver reaches it. Its methods return at once."""

    @property
    def name(self) -> str:
        """Tells it from all others of the cluster, and says to people where it is."""

    @property
    def workers(self) -> int:
        """Workers of its local pool."""

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> Future[Replies]:
        """Call `Agent.give` there.

        Parameters
        ----------
        message : bytes
            For the agent.
        blobs : list of (int, object)
            Large data that the agent keeps under a number. Each object is what `Cluster.put`
            returned: the node fetches it once, and gives the agent its bytes.

        Returns
        -------
        Future
            It fails if the node is gone: then the message may have arrived or not. Its callbacks
            may run in any thread.
        """

    def collect(self) -> Future[Replies]:
        """Call `Agent.collect` there: it waits for results, for some seconds at most."""

    def release(self) -> None:
        """Give the node back: the agent ends, and what it runs with it. No error if it is gone.

        The driver does this when a call has failed. Until `Cluster.stop`, the cluster starts
        another agent in its place, if there is room for it.
        """


class Driver(Protocol):
    """What a cluster tells the driver, in any thread."""

    def joined(self, node: Node) -> None:
        """Note that there is another node, whose agent has started."""

    def left(self, name: str, reason: str) -> None:
        """Note that a node is gone, and why. Of an unknown name, or twice, it does nothing."""

    def idle(self, name: str) -> None:
        """Have a node released, unless it has tasks or is the last one: a cluster that shrinks."""

    def lost(self, error: BaseException) -> None:
        """Note that the cluster as a whole is gone: no task will end any more."""


class Cluster(Protocol):
    """Starts agents on the nodes of a cluster, and watches them."""

    def start(self, setup: bytes, driver: Driver) -> None:
        """Connect, start an agent on each node, and call `driver.joined` for each of them.

        It returns once there is a node. From then on until `stop`, nodes that join get an agent as
        long as fewer workers were started than the pool has to have, and `driver.left` is called
        for each that is lost.

        Raises
        ------
        EngineUnavailable
            If the cluster cannot be reached, or has no room for a worker.
        EngineMismatch
            If versions of Python or of garrison differ between driver and node.
        """

    def put(self, data: Any) -> Any:
        """Store bytes (or a buffer) for `Node.give`, each node fetches them once."""

    def drop(self, stored: Any) -> None:
        """Forget what `put` returned."""

    def demand(self, tasks: int) -> None:
        """Hint how many tasks wait or run: a cluster that grows and shrinks may use it."""

    def stop(self) -> None:
        """Release all nodes, and disconnect. A cluster that was here before goes on."""
