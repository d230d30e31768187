"""`ndarray`: a numpy array in shared memory."""

from __future__ import annotations

import functools

from garrison._pickling import register
from garrison._typing import TYPE_CHECKING, Any
from garrison.memory.capacity import allocate_block
from garrison.memory.handles import SharedBlock

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ndarray"]


def ndarray(shape: Any, dtype: Any = float) -> np.ndarray[Any, Any]:
    """Return a numpy array in shared memory, all zero.

    Parameters
    ----------
    shape : int or tuple of int
        Its shape, as for `numpy.zeros`.
    dtype
        Its type, as for `numpy.zeros`; Python objects cannot be shared.

    Returns
    -------
    numpy.ndarray
        An array that is sent to other processes as a handle: as an argument of a process or of a
        pool's task, as a result, through queues. So are its slices and other views. All use the
        same memory, without a lock. Arrays that numpy computes from it are ordinary arrays.

    Raises
    ------
    ImportError
        If there is no numpy.
    TypeError
        If the type is one of Python objects.
    ValueError
        If a dimension is negative.
    SharedMemoryFull
        If there is no room.

    Examples
    --------
    >>> import garrison
    >>> from garrison.memory import ndarray
    >>> table = ndarray((2, 3), "i4")
    >>> def fill(row, number):
    ...     row[:] = number
    >>> with garrison.Pool(2) as pool:
    ...     pool.starmap(fill, [(table[0], 7), (table[1], 8)])
    [None, None]
    >>> table.tolist()
    [[7, 7, 7], [8, 8, 8]]
    """
    kind = _numpy().dtype(dtype)
    if kind.hasobject:
        msg = f"an array of {kind} holds addresses of Python objects, which mean nothing elsewhere"
        raise TypeError(msg)
    sizes = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    if any(size < 0 for size in sizes):
        msg = f"negative dimensions are not allowed: {shape}"
        raise ValueError(msg)
    count = functools.reduce(lambda product, size: product * int(size), sizes, 1)
    array: np.ndarray[Any, Any]
    array = _place(allocate_block(max(1, count * kind.itemsize)), 0, sizes, None, kind)
    return array


def _place(spot: SharedBlock, offset: int, shape: Any, strides: Any, dtype: Any) -> Any:
    """Return the array at an address."""
    made = _class().__new__(_class(), shape, dtype, spot, offset, strides)
    made._garrison_spot = spot
    return made


def _numpy() -> Any:
    try:
        import numpy as np
    except ImportError as error:
        msg = "garrison.ndarray makes numpy arrays, and there is no numpy here: install numpy"
        raise ImportError(msg) from error
    return np


@functools.cache
def _class() -> Any:
    """Make the class of such arrays, once numpy is imported."""
    np = _numpy()

    class SharedArray(np.ndarray):  # type: ignore[misc,name-defined] # numpy may be absent
        """A numpy array in shared memory, or an array that numpy has derived from one."""

        _garrison_spot: SharedBlock | None

        def __array_finalize__(self, origin: Any) -> None:
            # Called for each slice: pickling checks whether its data are in the shared memory.
            self._garrison_spot = getattr(origin, "_garrison_spot", None)

        def __array_wrap__(self, array: Any, context: Any = None, scalar: bool = False) -> Any:
            if array is self:
                return array
            return array[()] if scalar else array.view(np.ndarray)

        def __init_subclass__(cls, **kwds: Any) -> None:
            super().__init_subclass__(**kwds)
            register(cls, _reduce)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.view(np.ndarray).__reduce_ex__(protocol)

        def __reduce__(self) -> Any:
            return self.__reduce_ex__(2)

        def __deepcopy__(self, memo: Any) -> Any:
            """Return a private copy."""
            return np.array(self.view(np.ndarray))

    register(SharedArray, _reduce)
    SharedArray.__qualname__ = "SharedArray"
    return SharedArray


def _reduce(array: Any) -> Any:
    """Reduce an array that is sent: to a handle, if it is in shared memory."""
    np = _numpy()
    spot = array._garrison_spot
    offset = -1 if spot is None else _address(array) - _address(np.frombuffer(spot, "u1"))
    if spot is None or not 0 <= offset <= len(spot):
        return _own, (array.view(np.ndarray),)
    return _place, (spot, offset, array.shape, array.strides, array.dtype)


def _own(array: Any) -> Any:
    return array


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


ndarray.__module__ = "garrison.memory"
