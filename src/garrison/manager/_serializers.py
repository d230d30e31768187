"""How arguments and results of registered types are written."""

from __future__ import annotations

import contextlib
import pickle
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, NamedTuple

from garrison.memory import _handles

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Serializer", "serializer"]


class Serializer(NamedTuple):
    """A pair of functions."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def dumps(value: Any) -> bytes:
    """Pickle a value: plainly, else as `multiprocessing` does, else by value.

    Raises
    ------
    Exception
        What the plain attempt has raised, if none succeeds.
    """
    since = _handles.exported
    try:
        return pickle.dumps(value, 5)
    except Exception:
        _handles.withdraw(since)
        for attempt in (_with_reducers, _by_value):
            with contextlib.suppress(Exception):
                return attempt(value)
            _handles.withdraw(since)
        raise


def _with_reducers(value: Any) -> bytes:
    return bytes(reduction.ForkingPickler.dumps(value))


def _by_value(value: Any) -> bytes:
    # Late: it takes longer to import than a manager takes to start.
    import cloudpickle

    written: bytes = cloudpickle.dumps(value, 5)
    return written


def _xml_dumps(value: Any) -> bytes:
    import xmlrpc.client

    text = xmlrpc.client.dumps((value,), None, None, None, allow_none=True)
    return text.encode("utf-8")


def _xml_loads(data: bytes) -> Any:
    import xmlrpc.client

    (value,), _ = xmlrpc.client.loads(data.decode("utf-8"), use_builtin_types=True)
    return value


_KNOWN = {
    "pickle": Serializer(dumps, pickle.loads),
    "xmlrpclib": Serializer(_xml_dumps, _xml_loads),
}


def serializer(name: str) -> Serializer:
    """Return the serializer of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        return _KNOWN[name]
    except KeyError:
        msg = f"serializer must be one of {', '.join(map(repr, _KNOWN))}, not {name!r}"
        raise ValueError(msg) from None
