"""The agent of a node: it has a local pool, takes batches of tasks, and brings results.

An adapter makes an `Agent` in a process of the node, in whatever its cluster calls an actor, and
forwards the calls of `Node` to it. Its methods may be called by several threads at once.
"""

from __future__ import annotations

from garrison._typing import Any

__all__ = ["Agent", "about"]


def about() -> dict[str, Any]:
    """Return what driver and node must agree on, and where this is.

    Returns
    -------
    dict
        ``python`` and ``garrison`` (versions), ``host``, ``pid``, ``cpus``.
    """
    raise NotImplementedError


class Agent:
    """Runs the tasks of a node.

    Parameters
    ----------
    setup : bytes
        What `Cluster.start` got from the driver.
    workers : int
        Workers of the local pool.
    name : str
        The node's name, for messages.
    """

    def __init__(self, setup: bytes, workers: int, name: str) -> None:
        raise NotImplementedError

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> list[bytes]:
        """Take tasks; return at once, with the results that are there.

        `blobs` has numbers and buffers: the adapter has fetched what `Cluster.put` stored.
        """
        raise NotImplementedError

    def collect(self, seconds: float) -> list[bytes]:
        """Return results when there are some, or nothing after `seconds`."""
        raise NotImplementedError

    def end(self) -> None:
        """End the local pool and all that it runs."""
        raise NotImplementedError
