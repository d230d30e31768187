"""A node as the driver reaches it: calls of an actor as futures."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue

from garrison._typing import TYPE_CHECKING, Any
from garrison.engines.ray._actor import Bytes
from garrison.engines.ray._failures import node_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison.engines.ray._shares import Place

__all__ = ["COLLECT_S", "Caller", "RayNode", "Stored"]

COLLECT_S = 5.0
"""Seconds that a `collect` waits at most."""


class Stored:
    """An object in Ray's store, until it is dropped."""

    __slots__ = ("reference",)

    def __init__(self, reference: Any) -> None:
        self.reference = reference


class Caller:
    """A thread that makes calls in their order: with Ray Client each waits for the server."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="garrison-ray-client", daemon=True).start()

    def run(self, call: Callable[[], None]) -> None:
        """Make a call, after those before it."""
        self._calls.put(call)

    def end(self) -> None:
        """End the thread, after all calls so far."""
        self._calls.put(None)

    def _work(self) -> None:
        for call in iter(self._calls.get, None):
            call()


class RayNode:
    """An agent on a node.

    Parameters
    ----------
    ray : module
        Ray.
    actor : ActorHandle
        A `NodeActor`.
    place : Place
        Where it is.
    workers : int
        Workers of its local pool.
    name : str
        Its name.
    run : callable
        Runs a call that reaches Ray: at once, or in a thread for it.
    told : callable
        Called as ``told(node, error)`` in any thread: with the failure of a call, or with None if
        the driver has no use for the node.
    """

    def __init__(
        self,
        ray: Any,
        actor: Any,
        place: Place,
        workers: int,
        name: str,
        run: Callable[[Callable[[], None]], None],
        told: Callable[[RayNode, BaseException | None], None],
    ) -> None:
        self._ray, self.actor, self.place = ray, actor, place
        self.workers, self.name = workers, name
        self._run, self._told = run, told
        self.is_over = False
        """Whether nothing of it matters any more."""

    def open(self, setup: bytes) -> Future[Any]:
        """Start the agent."""
        return self._call(self.actor.open, setup, self.workers, self.name)

    def give(self, message: bytes, blobs: list[tuple[int, Any]]) -> Future[list[bytes]]:
        """Call `Agent.give` there."""
        numbers = [number for number, _ in blobs]
        references = [stored.reference for _, stored in blobs]
        return self._call(self.actor.give, message, numbers, references)

    def collect(self) -> Future[list[bytes]]:
        """Call `Agent.collect` there."""
        return self._call(self.actor.collect, COLLECT_S)

    def watch(self) -> None:
        """Have it told when the actor is gone, also while nothing else is called."""
        self._call(self.actor.watch)

    def end(self) -> Future[Any]:
        """End the agent."""
        self.is_over = True
        return self._call(self.actor.end)

    def release(self) -> None:
        """Give the node back."""
        self._told(self, None)

    def _call(self, method: Any, *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        self._run(partial(self._begin, done, method, args))
        return done

    def _begin(self, done: Future[Any], method: Any, args: tuple[Any, ...]) -> None:
        try:
            future = method.remote(*args).future()
        except Exception as error:
            self._fail(done, error)
        else:
            future.add_done_callback(partial(self._answered, done))

    def _answered(self, done: Future[Any], future: Future[Any]) -> None:
        # In a thread of Ray's, which waits for it.
        try:
            error = future.exception()
            if error is None:
                done.set_result(_unpacked(future.result()))
        except BaseException as failure:
            error = failure
        if error is not None:
            self._fail(done, error)

    def _fail(self, done: Future[Any], error: BaseException) -> None:
        failure = node_failure(self._ray, self.name, error)
        if not self.is_over:
            self._told(self, failure)
        done.set_exception(failure)


def _unpacked(replies: Any) -> Any:
    if not isinstance(replies, list):
        return replies
    return [bytes(reply.data) if isinstance(reply, Bytes) else reply for reply in replies]
