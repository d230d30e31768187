"""The hooks of a backend in Python: pickling, and canonical keys."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from garrison import _pickling
from garrison._typing import Any
from garrison.errors import ItemUnpicklable, ValueUnreadable
from garrison.memory import handles

__all__ = ["PLAIN_MARK", "Codec"]

PLAIN_MARK = b"\x01"
"""The first byte of what `plain_values` has written. A pickle begins with another one."""
_RULES = _pickling.by_value(_pickling.found_by_name)
EncodeKey = Callable[[Any, Any], tuple[bytes, bytes]]


class Codec:
    """The hooks of one backend.

    Parameters
    ----------
    uuid : bytes
        The store's id.
    encode_key : callable
        The backend's own encoding of keys, for those that are equal to a plain one.
    container : callable
        Makes the object for a nested container from its kind, its number, and whether it is shared.
    """

    def __init__(
        self, uuid: bytes, encode_key: EncodeKey, container: Callable[[int, int, bool], Any]
    ) -> None:
        self.uuid = uuid
        self.container = container
        self._encode_key = encode_key
        # Shared memory that stored objects refer to. Readers open it through this process.
        self._referenced_blocks: dict[Any, handles.SharedBlock] = {}
        self._descriptors = _pickling.Kept()

    def dumps(self, obj: Any) -> bytes:
        """Pickle an object: importable classes and functions by reference, others by value.

        Raises
        ------
        ItemUnpicklable
            If it cannot be pickled.
        """
        try:
            first = {**self._descriptors.first(), handles.SharedBlock: self._reduce_spot}
            return _pickling.dumps(obj, _RULES, first)
        except _pickling.UNPICKLABLE as error:
            msg = f"cannot store {_pickling.short(obj)}: {error}; store what it is made from"
            raise ItemUnpicklable(msg) from error

    def _reduce_spot(self, spot: handles.SharedBlock) -> tuple[Any, ...]:
        """Return an address of shared memory that can be opened any number of times."""
        address = handles.address_of(spot)
        self._referenced_blocks[address] = spot
        return handles.open_address, address

    @staticmethod
    def loads(data: bytes) -> Any:
        """Rebuild an object.

        Raises
        ------
        ValueUnreadable
            If that raises anything: a class that cannot be imported here, for instance.
        """
        if data[:1] == PLAIN_MARK:
            # Late: only clients without a key write such values.
            from garrison.store import plain_values

            return plain_values.loads(data)
        try:
            return pickle.loads(data)  # noqa: S301 - written by a holder of the key, or of the folder
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
            If the object is unhashable, or cannot be encoded.
        """
        # Late: numbers, text and tuples of them are no business of it, and it loads much.
        from garrison.store._canonical_keys import canonical_key

        return canonical_key(obj, self._plain_key)

    def close(self) -> None:
        """Close the shared memory that stored objects refer to."""
        self._referenced_blocks.clear()
        self._descriptors = _pickling.Kept()

    def _plain_key(self, obj: Any) -> bytes:
        return self._encode_key(obj, self)[0]
