"""How calls, results and exceptions are encoded for the cells of the task table.

A small value is one pickle. Writable buffers of `LARGE` bytes and more (numpy arrays, and all that
supports pickle protocol 5) stay out of it: they are copied once, into shared memory, and arrive as
views.

An exception has a header that can always be decoded (its type's name, text and traceback) before a
payload that may not.
"""

from __future__ import annotations

import enum
import pickle
import struct
import sys

from garrison import _core
from garrison._core import PickledResult
from garrison._pickling import STANDARD, dumps_apart, without_key
from garrison._pickling import dumps as dumps_alone
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ResultUnpicklable, SharedMemoryFull
from garrison.memory import handles
from garrison.memory.capacity import CHECK_THRESHOLD, check_available
from garrison.pool import _error_pickles, _pickling_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from garrison._core import Rules
    from garrison.pool._facts import Facts
    from garrison.pool._failure import Failure

    Encoded = tuple[bytes, "list[Any] | None"]


class Outcome(enum.IntEnum):
    """The kind of a task's result. The core has the same numbers."""

    OK = 0
    """The pickled result."""
    ERROR = 1
    """An exception, encoded by `encode_error`."""
    MEMORY_FULL = 3
    """The result did not fit into shared memory; the payload is a text that fits into a cell."""
    ITEMS = _core.OUTCOME_EACH
    """Each item has an outcome of its own."""
    MEMORY_CORRUPT = _core.OUTCOME_CORRUPT
    """The task's words in shared memory were damaged; the payload is a text."""
    LOST = _core.OUTCOME_LOST
    """The supervisor reports the worker's end; the payload is a dict of the error's attributes."""


_OK, _ERROR = Outcome.OK, Outcome.ERROR  # a global is found faster than a member

LARGE = 1 << 14
"""Smaller buffers are cheaper inside of the pickle."""

dumps, loads = pickle.dumps, _core.loads  # written by a process of the pool


def encode(
    value: object,
    rules: Rules = STANDARD,
    where: str = "",
    *,
    large: int = LARGE,
    first: dict[type, Any] | None = None,
) -> Encoded:
    """Pickle `value`; its large buffers come separately, as memory views.

    If it cannot be sent, and `where` says what it is, the error names the path to the culprit.
    Reducers in `first`, by exact type, come before all others.
    """
    since = handles.export_count
    try:
        data, buffers = dumps_apart(value, rules, large, first)
        if buffers or len(data) > CHECK_THRESHOLD:
            check_available(len(data) + sum(view.nbytes for view in buffers or ()))
    except SharedMemoryFull:
        handles.cancel_exports(since)
        raise
    except Exception as error:
        handles.cancel_exports(since)
        if not where:
            raise
        raise _pickling_rules.unpicklable(value, where, error, rules) from error
    except BaseException:
        handles.cancel_exports(since)
        raise
    return data, buffers


def encode_result(
    value: object, *, large: int = LARGE
) -> tuple[int, bytes, list[memoryview] | None]:
    """Outcome, payload and buffers of a call that returned `value`."""
    try:
        return (_OK, *encode(value, _pickling_rules.RESULTS, large=large))
    except SharedMemoryFull as error:
        return _ERROR, encode_error(error, result=value), None
    except Exception as error:
        from garrison.pool._stdlib_names import MaybeEncodingError

        wrapped: Any = MaybeEncodingError(error, value)
        wrapped.value = without_key(wrapped.value)
        wrapped.args = wrapped.exc, wrapped.value
        return _ERROR, encode_error(wrapped, result=value), None


def index_of_unpicklable(values: list[Any]) -> int | None:
    """Return which of these results cannot be sent; None if each of them can."""
    since = handles.export_count
    try:
        for index, value in enumerate(values):
            try:
                encode(value, _pickling_rules.RESULTS)
            except SharedMemoryFull:
                return None
            except Exception:
                return index
    finally:
        handles.cancel_exports(since)
    return None


class ItemError:
    """One item's exception within a chunk's results, ready to be raised."""

    __slots__ = ("error", "facts", "index")

    def __init__(self, error: BaseException, facts: Facts | None = None) -> None:
        self.error: BaseException = error
        self.facts: Facts | None = facts
        self.index: int | None = None
        """The item's place in the input, once that is known."""

    def noted(self) -> BaseException:
        """Return the exception, with its note."""
        if self.facts is not None:
            self.facts.add_note(self.error, self.index)
        return self.error

    def as_failure(self) -> Failure:
        """Return what takes the place of the result with ``on_error="return"``."""
        from garrison.pool._failure import failure_of  # late: few programs ask for it

        return failure_of(self.noted(), self.facts, self.index)


def encode_result_fallback(value: object) -> tuple[bool, bytes]:
    """Encode an item's result that the core could not: success, and the pickle or error."""
    outcome, data, _ = encode_result(value, large=sys.maxsize)
    return outcome == _OK, data


def joined_items(pickles: list[bytes]) -> bytes:
    """Return items' pickles as the payload that `_core.split` takes apart."""
    return b"".join([_HEAD.pack(len(data)) + data for data in pickles])


_HEAD = struct.Struct("=I")


def decode_items(entries: list[Any]) -> list[Any]:
    """Decode results of items as the core gives them; a failure is an `ItemError`."""
    if PickledResult not in set(map(type, entries)):
        return entries
    return [_decoded(each) if type(each) is PickledResult else each for each in entries]


def _decoded(entry: PickledResult) -> Any:
    if not entry.succeeded:
        return ItemError(*decode_failure(entry.pickle))
    try:
        return loads(entry.pickle)
    except Exception as failure:
        return ItemError(undecodable(failure))


# --- Exceptions -------------------------------------------------------------------------------


facts_at_work: Callable[[Any], tuple[Any, ...] | None] | None = None
"""In a worker: returns what is known of the call at work, for the note on its failure. It gets the
result that could not be sent, if that is the failure."""


def encode_error(
    error: BaseException, facts: tuple[Any, ...] | None = None, result: Any = None
) -> bytes:
    """Encode an exception: the header, then the exception with its causes and contexts.

    What is known of the call is by default that of the task at work; `result` is what it has
    returned, if that could not be sent.
    """
    if facts is None and facts_at_work is not None:
        facts = facts_at_work(result)
    return _error_pickles.encode_error(error, _dumps_error, facts)


def _dumps_error(error: BaseException) -> bytes:
    return dumps_alone(error, _pickling_rules.RESULTS)


def decode_error(data: Any, where: str = "") -> BaseException:
    """Decode an exception; if it cannot be rebuilt, return an error with the reason.

    Its remote traceback says `where` it was raised, if that was another machine.
    """
    return _decoded_error(loads(data), where)


def decode_failure(data: Any, where: str = "") -> tuple[BaseException, Facts | None]:
    """Decode an exception, and what is known of the call."""
    parts = loads(data)
    error = _decoded_error(parts, where)
    if parts[-1] is None:
        return error, None
    from garrison.pool._facts import Facts  # late, as few calls fail

    facts = Facts(*parts[-1])
    if where:
        facts.worker += f" of {where}"
    return error, facts


def _decoded_error(parts: tuple[Any, ...], where: str) -> BaseException:
    type_name, text, remote, pickles, links, _ = parts
    if where:
        remote = f"On {where}:\n{remote}"
    if pickles is None:
        why, exc, value = links
        msg = f"the task raised {type_name}: {text}; the exception cannot be pickled ({why})"
        # Late: a worker has no use for the standard library's pool.
        from garrison.pool._stdlib_names import ExceptionUnpicklable

        return ExceptionUnpicklable(msg, type_name, remote, exc, value)
    try:
        chain = [loads(pickles[0]), *map(_loads_linked, pickles[1:])]
    except Exception as failure:
        msg = (
            f"the task raised {type_name}: {text}; the exception cannot be rebuilt here "
            f"({type(failure).__name__}: {failure}); give it a __reduce__ that fits its __init__"
        )
        return ResultUnpicklable(msg, type_name, remote)
    for error, (cause, context, suppress) in zip(chain, links, strict=True):
        if error is not None:
            error.__cause__ = None if cause is None else chain[cause]
            error.__context__ = None if context is None else chain[context]
            error.__suppress_context__ = suppress
    return _with_remote_traceback(chain[0], remote)


def _loads_linked(pickled: bytes | None) -> Any:
    try:
        return None if pickled is None else loads(pickled)
    except Exception:
        return None  # the error itself can do without


def _with_remote_traceback(error: BaseException, remote: str) -> BaseException:
    """Append the worker's traceback to the end of the chain of causes."""
    last = error
    seen = {id(last)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    if last.__cause__ is None:
        from garrison.pool._stdlib_names import RemoteTraceback  # late, as above

        last.__cause__ = RemoteTraceback(f'\n"""\n{remote}"""')
    return error


def decode_value(payload: Any, buffers: list[Any] | None) -> Any:
    """Decode the payload of `encode`; a failure is a `ResultUnpicklable` with its reason."""
    try:
        return loads(payload, buffers=buffers)
    except Exception as failure:
        raise undecodable(failure) from failure


def undecodable(failure: Exception) -> ResultUnpicklable:
    """Return the error for a result that cannot be decoded."""
    return ResultUnpicklable(
        f"the task's result cannot be rebuilt here ({type(failure).__name__}: {failure})"
    )
