"""The actor of a node: it forwards the driver's calls to the agent. Runs in a process of Ray's."""

from __future__ import annotations

import importlib
import pickle
import threading

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.cluster.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONCURRENCY", "Bytes", "NodeActor"]

CONCURRENCY = {"give": 1, "collect": 1, "watch": 1}
"""Threads of the actor, one for each group of calls. Messages stay in their order; a waiting
`collect` does not keep them from coming in."""

LARGE = 1 << 20
"""Bytes of a reply that is not copied into a pickle first."""


class Bytes:
    """A buffer that Ray stores apart from the pickle: readers on a node see the same memory."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Bytes, (pickle.PickleBuffer(self.data),)


class NodeActor:
    """What an agent's `Agent` does, for Ray.

    Parameters
    ----------
    make_agent : callable
        `Agent`.
    """

    def __init__(self, make_agent: Callable[[bytes, int, str], Any] = Agent) -> None:
        self._make_agent = make_agent
        self._agent: Any = None
        self._ended = threading.Event()

    def open(self, setup: bytes, workers: int, name: str) -> None:
        """Start the agent."""
        self._agent = self._make_agent(setup, workers, name)

    def give(self, message: bytes, numbers: list[int], stored: list[Any]) -> list[Any]:
        """Forward `Agent.give`; `stored` are references to blobs, which Ray fetches now."""
        blobs = importlib.import_module("ray").get(stored) if stored else []
        found = [
            (number, memoryview(blob.data)) for number, blob in zip(numbers, blobs, strict=True)
        ]
        return _replies(self._agent.give(message, found))

    def collect(self, seconds: float) -> list[Any]:
        """Forward `Agent.collect`."""
        return _replies(self._agent.collect(seconds))

    def watch(self) -> None:
        """Return when the agent was told to end: if the actor dies, the call fails."""
        self._ended.wait()

    def end(self) -> None:
        """End the agent."""
        agent, self._agent = self._agent, None
        try:
            if agent is not None:
                agent.end()
        finally:
            self._ended.set()


for _group in CONCURRENCY:
    # What ray.method(concurrency_group=...) does. Ray is not imported here, and Ray Client takes no
    # such option with a call.
    vars(NodeActor)[_group].__ray_concurrency_group__ = _group


def _replies(replies: list[bytes]) -> list[Any]:
    return [Bytes(reply) if len(reply) >= LARGE else reply for reply in replies]
