"""`Ending`: the finalizer of a pool's workers, and its values on their way to the program."""

from __future__ import annotations

import pickle
import queue
import sys

from garrison._typing import TYPE_CHECKING, Any
from garrison.pool import _encoding
from garrison.pool._encoding import Outcome
from garrison.pool._failure import Failure
from garrison.sync import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ending"]


class Ending:
    """Runs a finalizer at the orderly end of each worker.

    The values lie in a queue in shared memory, which workers inherit or are sent at their start:
    only they write there, so what is unpickled was written by this program.

    Parameters
    ----------
    finalizer : callable or bytes
        The function, or its pickle.
    pass_state : bool
        Whether it gets the worker's state.
    """

    def __init__(self, finalizer: Callable[..., object] | bytes, *, pass_state: bool) -> None:
        self._finalizer, self._pass_state = finalizer, pass_state
        self._queue: Queue[tuple[int, bool, bytes]] = Queue()
        self._values: list[tuple[int, Any]] = []

    def run(self, number: int, state: Any) -> None:
        """Run the finalizer of a worker: the last that it does."""
        try:
            found = self._finalizer
            finalizer = found if callable(found) else pickle.loads(found)  # noqa: S301 - written by the parent
            value = finalizer(state) if self._pass_state else finalizer()
            outcome, data, _ = _encoding.encode_result(value, large=sys.maxsize)
        except Exception as error:
            import traceback

            traceback.print_exception(error)
            outcome, data = Outcome.ERROR, _encoding.encode_error(error)
        self._queue.put((number, outcome == Outcome.OK, data))

    def values(self) -> list[Any]:
        """Return the values so far, in the order of the workers; a failure is a `Failure`."""
        while True:
            try:
                number, succeeded, data = self._queue.get(block=False)
            except queue.Empty:
                break
            self._values.append((number, _decoded(succeeded, data)))
        return [value for _, value in sorted(self._values, key=lambda found: found[0])]


def _decoded(succeeded: bool, data: bytes) -> Any:
    try:
        if succeeded:
            return _encoding.decode_value(data, None)
        return Failure(None, "finalizer", _encoding.decode_error(data))
    except Exception as error:
        return Failure(None, "finalizer", error)
