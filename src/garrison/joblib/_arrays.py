"""Large arrays on their way to the workers.

joblib's own backends write an array of more than `max_nbytes` into a file, once for all tasks, and
workers map the file. Here it is copied into shared memory, once for all tasks of a call, and there
is no file. What a worker receives depends on joblib's `mmap_mode`:

    "r"             a read-only view of the shared memory (the default)
    "r+", "w+"      a view that may be written to: other tasks see it, the program's array does not
    "c", None       a copy of its own

The first task that gets an array gets it as any argument of a pool: that is five times as fast as
new shared memory, and most arrays of a call have one task only. For the second one it is shared.

An array that is mapped from a file by the program is mapped from it by the workers as well.
"""

from __future__ import annotations

import sys
import weakref
from functools import partial

from garrison._typing import TYPE_CHECKING, Any
from garrison.memory import Shared, ndarray, share
from garrison.memory.handles import SharedBlock, address_of, open_address

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["SharedArrays"]

MOST_SENT = 1 << 30
"""Bytes of the largest array that may for a while be in memory both for one task and shared."""


class SharedArrays:
    """The large arrays of one call of `joblib.Parallel`.

    Parameters
    ----------
    max_nbytes : int or None
        The largest size that each task gets by itself; None for any size.
    mmap_mode : str or None
        What workers receive, as above.
    """

    def __init__(self, max_nbytes: int | None, mmap_mode: str | None) -> None:
        self._max_nbytes = sys.maxsize if max_nbytes is None else max_nbytes
        self._mode = mmap_mode
        self._shared: dict[int, tuple[weakref.ref[Array], Any]] = {}
        """By identity; an entry goes with its array. None: one task has it."""
        self._used: list[Any] = []
        self.reducers: dict[type, Any] = {SharedBlock: self._reduce_block}
        """How a batch is pickled: the argument `first` of garrison's picklers."""
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None:
            self.reducers |= {numpy.ndarray: self._reduce, numpy.memmap: self._reduce}

    def take_used(self) -> list[Any]:
        """Return what must be kept until the batch that was pickled last is over."""
        used, self._used = self._used, []
        return used

    def _reduce_block(self, block: SharedBlock) -> Any:
        """Send an address that any number of workers, and attempts, may open."""
        self._used.append(block)
        return open_address, address_of(block)

    def _reduce(self, array: Array) -> Any:
        mapped = _mapped_file(array)
        if mapped is not None:
            return _reduce_mapped(array, mapped)
        if array.nbytes <= self._max_nbytes or array.dtype.hasobject:
            return NotImplemented
        if self._is_first(array):
            reduced: Any = array.__reduce_ex__(5)
            make, arguments, *state = reduced
            if not state:  # its memory is one buffer
                return _sent, (make, arguments, self._mode == "r")
        shared = self._share(array)
        if self._mode in {"r+", "w+"}:
            return _same, (shared,)
        return (Shared.get if self._mode == "r" else _copy), (shared,)

    def _is_first(self, array: Array) -> bool:
        """Note an array; return whether it may go to its first task as an argument."""
        if array.nbytes > MOST_SENT or self._mode in {"r+", "w+"}:
            return False
        is_first = self._known(array) is None
        if is_first:
            self._note(array, None)
        return is_first

    def _known(self, array: Array) -> tuple[weakref.ref[Array], Any] | None:
        """Return the entry of an array; one of another array, at the same address, is none."""
        known = self._shared.get(id(array))
        return known if known is not None and known[0]() is array else None

    def _share(self, array: Array) -> Any:
        known = self._known(array)
        if known is not None and known[1] is not None:
            return known[1]
        shared: Any
        if self._mode in {"r+", "w+"}:
            shared = ndarray(array.shape, array.dtype)
            shared[...] = array
        else:
            shared = share(array)
        self._note(array, shared)
        return shared

    def _note(self, array: Array, shared: Any) -> None:
        key = id(array)
        self._shared[key] = weakref.ref(array, partial(_forget, self._shared, key)), shared


def _forget(known: dict[int, Any], key: int, _array: object) -> None:
    known.pop(key, None)


def _sent(make: Any, arguments: Any, is_read_only: bool) -> Array:
    array: Array = make(*arguments)
    if is_read_only:
        array.flags.writeable = False
    return array


def _same(array: Array) -> Array:
    return array


def _copy(shared: Shared[Array]) -> Array:
    copied: Array = shared.get().copy(order="K")
    return copied


# --- Arrays of the program that are mapped from a file ------------------------------------------


def _mapped_file(array: Any) -> Any:
    """Return the `numpy.memmap` in whose memory an array lies; None if there is none."""
    import numpy as np

    found: Any = None
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.filename is not None:
            found = array  # the last one has the offset of the mapping itself
        array = array.base
    return found


def _reduce_mapped(array: Array, mapped: Any) -> Any:
    low, high = _bounds(array)
    begin = low - _bounds(mapped)[0] + mapped.offset
    start = int(array.__array_interface__["data"][0]) - low
    mode = "r+" if mapped.mode == "w+" else mapped.mode
    place = (array.shape, array.dtype, start, array.strides)
    return _map_file, (mapped.filename, mode, begin, high - low, place)


def _bounds(array: Array) -> tuple[int, int]:
    """The addresses of an array's first byte, and behind its last."""
    first = last = int(array.__array_interface__["data"][0])
    if not array.size:
        return first, first
    for size, stride in zip(array.shape, array.strides, strict=True):
        first += min(0, stride * (size - 1))
        last += max(0, stride * (size - 1))
    return first, last + array.itemsize


def _map_file(filename: str, mode: Any, begin: int, nbytes: int, place: Any) -> Any:
    import numpy as np

    shape, dtype, start, strides = place
    if not nbytes:
        return np.empty(shape, dtype)
    data: Any = np.memmap(filename, "u1", mode, begin, (nbytes,))
    return np.ndarray(shape, dtype, data, start, strides)
