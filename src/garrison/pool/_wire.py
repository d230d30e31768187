"""How calls, results and exceptions are written into cells.

Small things are one pickle. Buffers from `LARGE` bytes on (numpy arrays and whatever else speaks
pickle protocol 5) stay out of it: they are copied once, into shared memory, and arrive as views.

An exception has a header that always decodes (its type's name, text and traceback) before a payload
that may not.
"""

from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

from garrison import _core
from garrison.errors import ResultUnpicklable, SharedMemoryFull
from garrison.memory import _handles
from garrison.memory._room import CHECKED, check_room
from garrison.pool import _functions
from garrison.pool._standard import MaybeEncodingError, RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.pool._functions import Known

    Encoded = tuple[bytes, "list[Any] | None"]

# Kinds of a cell: what the payload is and how the function is applied to it.
CALL = 0
"""(args, kwds)"""
MAP = 1
"""A list of items; each is the function's one argument."""
STARMAP = 2
"""A list of argument tuples."""
ARGS = 8
"""args: a call without keywords, the usual one."""
EACH = 4
"""Pickled items one after the other (see `_core.pack`), each with an outcome of its own. One that
is alone may have buffers."""
LIST = 16
"""Added to EACH: the items are one pickle, of scalars that nobody can change or tell apart."""

# Outcomes of a cell.
OK = 0
ERROR = 1
LOST = _core.OUTCOME_LOST
"""The supervisor's word: the payload is a dict of facts."""
ITEMS = _core.OUTCOME_EACH
"""Each item has an outcome of its own, see `native/src/python/journal.rs`."""
NO_ROOM = 3
"""The result did not fit into shared memory; the payload is a text that fits into a cell."""

SCALARS = frozenset({int, float, complex, bool, type(None), str, bytes})

LARGE = 1 << 14
"""Buffers below this size are cheaper inside of the pickle."""

dumps, loads = pickle.dumps, pickle.loads


def encode(
    value: object, known: Known | None = None, where: str = "", *, large: int = LARGE
) -> Encoded:
    """Pickle `value`; its large buffers come separately, as memory views.

    With `known`, what the workers cannot import travels by value, and a failure names the path
    to what cannot be sent.
    """
    buffers: list[Any] = []
    since = _handles.exported
    try:
        data = dumps(value, 5, buffer_callback=buffers.append)
    except Exception:
        _handles.withdraw(since)
        if known is None:
            raise
        return _encode_otherwise(value, known, where, large)
    by_value = known is not None and _functions.MAIN in data and not known.all_of_main()
    if buffers or by_value:
        _handles.withdraw(since)
        return _encode_otherwise(value, known if by_value else None, where, large)
    if len(data) > CHECKED:
        check_room(len(data))
    return data, None


def _encode_otherwise(
    value: object, known: Known | None, where: str, large: int = LARGE
) -> Encoded:
    """As `encode`, for values with buffers, or with something that must travel by value."""
    buffers: list[Any] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < large:
            return True
        buffers.append(view)
        return False

    since = _handles.exported
    try:
        if known is None:
            data = dumps(value, 5, buffer_callback=keep)
            if any(view.readonly for view in buffers):
                data = _without_buffers(value, data, buffers, since)
        else:
            from garrison.pool import _by_value

            data = _by_value.dumps_by_value(value, known, where, keep)
        check_room(len(data) + sum(view.nbytes for view in buffers))
    except BaseException:
        _handles.withdraw(since)
        raise
    return data, buffers or None


def _without_buffers(value: object, data: bytes, buffers: list[Any], since: int) -> bytes:
    """What was read-only here is the task's own there: only older protocols say so."""
    first = _handles.exported
    try:
        whole = dumps(value, 4)
    except Exception:
        _handles.withdraw(first)
        return data
    _handles.withdraw(since, first)
    buffers.clear()
    return whole


def encode_result(value: object) -> tuple[int, bytes, list[Any] | None]:
    """Outcome, payload and buffers of a call that returned `value`."""
    try:
        return (OK, *encode(value))
    except SharedMemoryFull as error:
        return ERROR, encode_error(error), None
    except Exception as error:
        return _encode_result_of_main(value, error)


def _encode_result_of_main(value: object, error: Exception) -> tuple[int, bytes, None]:
    """Try again with classes of ``__main__`` by value: the parent knows its own again."""
    try:
        from garrison.pool import _by_value

        return OK, _by_value.dumps_with_classes(value), None
    except Exception:
        return ERROR, encode_error(MaybeEncodingError(error, value)), None


class Raise:
    """One item's exception within a chunk's results, ready to be raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def encode_other(value: object) -> tuple[bool, bytes]:
    """Write down one of several results that the plain pickler has refused."""
    outcome, data, _ = encode_result(value)
    return outcome == OK, data


def decode_each(entries: Iterable[tuple[bool, bytes]]) -> list[Any]:
    """Rebuild results of which each has an outcome of its own; failed ones are `Raise`."""
    return [_value_or_raise(data) if ok else Raise(decode_error(data)) for ok, data in entries]


def _value_or_raise(data: bytes) -> Any:
    try:
        return loads(data)
    except Exception as failure:
        return Raise(_undecodable(failure))


# --- Exceptions -------------------------------------------------------------------------------


def encode_error(error: BaseException) -> bytes:
    """Write an exception: what always decodes, then the exception with all that it is linked to."""
    kind = type(error)
    text = "".join(_formatted(error))
    header = (f"{kind.__module__}.{kind.__qualname__}", _safe(str, error), text)
    chain = _linked(error)
    for attempt in (_dump_chain, _dump_alone):
        try:
            return dumps((*header, attempt(chain), ""), 5)
        except Exception as failure:
            why = _safe(str, failure)
    return dumps((*header, None, why), 5)


def _formatted(error: BaseException) -> list[str]:
    tb = error.__traceback__
    # The frames of the worker itself say nothing about the task.
    while tb is not None and tb.tb_frame.f_globals.get("__name__", "").startswith("garrison.pool"):
        tb = tb.tb_next
    try:
        return traceback.format_exception(type(error), error, tb)
    except Exception:
        return [f"{type(error).__qualname__} (its traceback could not be formatted)\n"]


def _safe(function: Callable[[Any], str], value: object) -> str:
    try:
        return function(value)
    except Exception:
        return f"<{type(value).__qualname__}>"


def _linked(error: BaseException) -> list[BaseException]:
    """The exception and all that its causes and contexts lead to."""
    found = [error]
    for each in found:
        for link in (each.__cause__, None if each.__suppress_context__ else each.__context__):
            if link is not None and not any(link is known for known in found):
                found.append(link)
    return found


def _dump_chain(chain: list[BaseException]) -> bytes:
    index = {id(error): number for number, error in enumerate(chain)}
    links = [
        (
            index.get(id(error.__cause__)),
            index.get(id(error.__context__)),
            error.__suppress_context__,
        )
        for error in chain
    ]
    return dumps((chain, links), 5)


def _dump_alone(chain: list[BaseException]) -> bytes:
    return dumps((chain[:1], [(None, None, False)]), 5)


def decode_error(data: Any) -> BaseException:
    """Rebuild an exception from `encode_error`; if it cannot be, an error that says so."""
    type_name, text, remote, pickled, why = loads(data)
    if pickled is None:
        msg = f"the task raised {type_name}: {text}; the exception cannot be pickled ({why})"
        return ResultUnpicklable(msg, type_name, remote)
    try:
        chain, links = loads(pickled)
    except Exception as failure:
        msg = (
            f"the task raised {type_name}: {text}; the exception cannot be rebuilt here "
            f"({type(failure).__name__}: {failure}); give it a __reduce__ that fits its __init__"
        )
        return ResultUnpicklable(msg, type_name, remote)
    for error, (cause, context, suppress) in zip(chain, links, strict=True):
        error.__cause__ = None if cause is None else chain[cause]
        error.__context__ = None if context is None else chain[context]
        error.__suppress_context__ = suppress
    return _with_remote_traceback(chain, remote)


def _with_remote_traceback(chain: list[BaseException], remote: str) -> BaseException:
    """Hang the worker's traceback at the far end of the chain of causes: it hides nothing."""
    last = chain[0]
    seen = {id(last)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    if last.__cause__ is None:
        last.__cause__ = RemoteTraceback(f'\n"""\n{remote}"""')
    return chain[0]


def decode_value(payload: Any, buffers: list[Any] | None) -> Any:
    """Rebuild what `encode` wrote; a failure is a `ResultUnpicklable` with its reason."""
    try:
        return loads(payload, buffers=buffers)
    except Exception as failure:
        raise _undecodable(failure) from failure


def _undecodable(failure: Exception) -> ResultUnpicklable:
    return ResultUnpicklable(
        f"the task's result cannot be rebuilt here ({type(failure).__name__}: {failure})"
    )
