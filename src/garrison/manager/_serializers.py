"""How arguments and results of registered types are written."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from garrison.store import Codec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Serializer", "serializer"]


class Serializer(NamedTuple):
    """A pair of functions."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _xml_dumps(value: Any) -> bytes:
    import xmlrpc.client

    text = xmlrpc.client.dumps((value,), None, None, None, allow_none=True)
    return text.encode("utf-8")


def _xml_loads(data: bytes) -> Any:
    import xmlrpc.client

    (value,), _ = xmlrpc.client.loads(data.decode("utf-8"), use_builtin_types=True)
    return value


_KNOWN = {
    "pickle": Serializer(Codec.dumps, pickle.loads),
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
