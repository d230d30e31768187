"""The server's end of calls through shared memory: a thread for each thread of a client."""

from __future__ import annotations

import threading

from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from garrison.manager.server._dispatch import ClientSession, ObjectService
    from garrison.sync import Queue

__all__ = ["start_call_thread", "stop_call_threads"]


def start_call_thread(
    part: ObjectService, peer: ClientSession, queues: tuple[Queue, Queue], thread: int
) -> None:
    """Start the thread that carries out the calls of one thread of a client.

    Raises
    ------
    TooManyThreads
        If the client, or all clients, have too many.
    """
    calls, answers = queues
    budget, client, mine = part.budget, peer.session, object()

    def work() -> None:
        try:
            while (call := calls.get()) is not None:
                number, ident, method, payload = call
                answers.put((number, *part.perform(peer.name, ident, method, payload)))
        finally:
            open_queues.pop(mine, None)
            budget.give_back(client)

    budget.take(client)
    open_queues: dict[object, Queue] = peer.state.setdefault("call_queues", {})
    open_queues[mine] = calls
    try:
        threading.Thread(target=work, name=f"garrison-calls-{thread}", daemon=True).start()
    except BaseException:
        del open_queues[mine]
        budget.give_back(client)
        raise


def stop_call_threads(peer: ClientSession) -> None:
    """End the threads of a client that is gone."""
    for calls in list(peer.state.pop("call_queues", {}).values()):
        calls.put(None)
