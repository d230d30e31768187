"""What an engine leaves to Python: how objects are written, and which keys are equal."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.memory import _handles
from garrison.store._keys import canonical_key

__all__ = ["Codec"]

EncodeKey = Callable[[Any, Any], tuple[bytes, bytes]]


class Codec:
    """The hooks of one engine.

    Parameters
    ----------
    uuid : bytes
        16 bytes that no other store has.
    encode_key : callable
        The engine's own writing of keys, for those that are equal to a plain one.
    container : callable
        Makes the face of a nested container from its kind, its number, and whether it is shared.
    """

    def __init__(
        self, uuid: bytes, encode_key: EncodeKey, container: Callable[[int, int, bool], Any]
    ) -> None:
        self.uuid = uuid
        self.container = container
        self._encode_key = encode_key

    @staticmethod
    def dumps(obj: Any) -> bytes:
        """Write down any object: by reference what can be imported, by value the rest.

        Raises
        ------
        ItemUnpicklable
            If that is not possible.
        """
        try:
            return _pickled(obj, _Pickler)
        except (pickle.PicklingError, AttributeError, TypeError):
            return _by_value(obj)

    @staticmethod
    def loads(data: bytes) -> Any:
        """Rebuild an object.

        Raises
        ------
        ValueUnreadable
            If that raises anything: a class that cannot be imported here, for instance.
        """
        try:
            return pickle.loads(data)
        except Exception as error:
            msg = (
                f"a stored value cannot be rebuilt here: {type(error).__name__}: {error}; "
                "it is still in the store"
            )
            raise ValueUnreadable(msg) from error

    def key(self, obj: Any) -> bytes:
        """Return bytes that are equal for keys that are equal.

        Raises
        ------
        TypeError
            If the object is unhashable, or has no writing of its own.
        """
        return canonical_key(obj, self._plain_key)

    def _plain_key(self, obj: Any) -> bytes:
        return self._encode_key(obj, self)[0]


class _Pickler(pickle.Pickler):
    """Objects in shared memory are written so that anybody may rebuild them, any number of times."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is _handles.Spot:
            return _reduce_spot(obj)
        return NotImplemented


_kept: dict[Any, _handles.Spot] = {}
"""Places in shared memory that stored objects lead to. A handle needs its sender to have them."""


def _reduce_spot(spot: _handles.Spot) -> tuple[Any, ...]:
    address = _handles._address(spot)
    _kept[address] = spot
    return _handles._visit, address


def _pickled(obj: Any, pickler: Any) -> bytes:
    file = io.BytesIO()
    pickler(file, 5).dump(obj)
    return file.getvalue()


def _by_value(obj: Any) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # untyped
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is _handles.Spot:
                return _reduce_spot(obj)
            return super().reducer_override(obj)

    try:
        return _pickled(obj, Pickler)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        text = _short(obj)
        msg = f"cannot store {text}: {error}; store what it is made from"
        raise ItemUnpicklable(msg) from error


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__qualname__} object>"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004
