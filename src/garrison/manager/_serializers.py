"""How arguments and results of registered types are pickled."""

from __future__ import annotations

import pickle
from typing import NamedTuple

from garrison import _pickling
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.memory import handles

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WITHOUT_KEY", "Serializer", "get_serializer"]


class Serializer(NamedTuple):
    """A pair of functions."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def pickle_for_manager(value: Any) -> bytes:
    """Pickle a value in one pass; objects without a name in a module go by value.

    Raises
    ------
    Exception
        The error of `pickle`, if the value cannot be pickled.
    """
    since = handles.export_count
    try:
        return _pickling.dumps(value, _RULES)
    except BaseException:
        handles.cancel_exports(since)
        raise


_RULES = _pickling.by_value(_pickling.found_by_name)


def _xml_dumps(value: Any) -> bytes:
    import xmlrpc.client

    text = xmlrpc.client.dumps((value,), None, None, None, allow_none=True)
    return text.encode("utf-8")


def _xml_loads(data: bytes) -> Any:
    import xmlrpc.client

    (value,), _ = xmlrpc.client.loads(data.decode("utf-8"), use_builtin_types=True)
    return value


_KNOWN = {
    "pickle": Serializer(pickle_for_manager, pickle.loads),  # written by a holder of the key
    "xmlrpclib": Serializer(_xml_dumps, _xml_loads),
}


def _refuse_to_dump(value: Any) -> bytes:
    msg = (
        f"{_pickling.short(value)} is not sent to a server without a key, which keeps plain values "
        "only: start it with a key, and connect with that"
    )
    raise ItemUnpicklable(msg)


def _refuse_to_load(_: bytes) -> Any:
    msg = "a pickle of a server without a key is not read: any program may have written it"
    raise ValueUnreadable(msg)


WITHOUT_KEY = Serializer(_refuse_to_dump, _refuse_to_load)
"""For a server that has not proved a key."""


def get_serializer(name: str) -> Serializer:
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
