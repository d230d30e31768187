"""`share`: an object frozen once into shared memory, for any number of readers.

    | lengths: how many, pickle, buffer, buffer ... | pickle | buffer | buffer ...

Each part starts on a cache line. The pickle is that of protocol 5 with out-of-band buffers; a
reader rebuilds the object around views of the shared buffers.
"""

from __future__ import annotations

import pickle
import struct
import sys
from itertools import accumulate
from typing import Generic, TypeVar

from garrison._pickling import STANDARD, Kept, Transferable, assert_transfer, dumps_apart
from garrison._typing import Any
from garrison.memory import _ndarray, handles
from garrison.memory.capacity import allocate_block, fill
from garrison.memory.handles import SharedBlock

__all__ = ["Shared", "share"]

T = TypeVar("T")
LINE = 64
NATIVE = frozenset("cbB?hHiIlLqQnNfd")
"""Formats that a memory view can be cast to."""


def share(obj: T) -> Shared[T]:
    """Freeze an object into shared memory, once, for any number of processes.

    Parameters
    ----------
    obj
        Any object that can be pickled. Its out-of-band buffers (of numpy arrays, pandas frames,
        pyarrow tables, alone or inside of lists, dicts and your own classes) and those of
        `memoryview` are copied once, here. For `bytes` and `bytearray` see Notes.

    Returns
    -------
    Shared
        A handle: its ``get()`` returns the object. To send it to a process, a task or through a
        queue takes the same time for any size of the object.

    Raises
    ------
    TypeError, pickle.PicklingError
        If it cannot be pickled.
    SharedMemoryFull
        If there is no room.

    Notes
    -----
    The shared parts of the object are read-only: a numpy array is not writable. The other parts
    (a dict around it, for example) are built anew by each ``get()``, and belong to the caller.

    A `bytes` object cannot use shared memory. If `obj` itself is `bytes`, `bytearray` or a
    `memoryview`, of any size, ``get()`` returns a read-only `memoryview`. Inside of other objects
    `bytes` remain `bytes`, and each ``get()`` copies them: use ``memoryview(data)`` instead, which
    arrives as a read-only `memoryview` without a copy.

    Examples
    --------
    >>> import garrison, numpy
    >>> from garrison.memory import share
    >>> table = share({"prices": numpy.arange(1000.0)})
    >>> def total(table, first):
    ...     return table.get()["prices"][first : first + 10].sum()
    >>> with garrison.Pool(2) as pool:
    ...     [float(n) for n in pool.starmap(total, [(table, 0), (table, 10)])]
    [45.0, 145.0]
    """
    if isinstance(obj, (bytes, bytearray)):
        return share(memoryview(obj))  # type: ignore[arg-type] # it arrives as one
    frozen, inner = _serialize_frozen(obj)
    return Shared(frozen, inner)


def _serialize_frozen(obj: object) -> tuple[SharedBlock, list[SharedBlock | Kept]]:
    """Write an object; return its block, and the blocks of handles inside of it."""
    inner: list[SharedBlock | Kept] = []
    data, buffers = dumps_apart(obj, STANDARD, 0, _reducers(inner), frozen=True)
    try:
        return _write([memoryview(data), *(buffers or ())]), inner
    finally:
        # A view of a view must not become garbage together with it (in a traceback, for example):
        # CPython's collector clears one while the other still uses it.
        for view in buffers or ():
            view.release()


def _write(parts: list[memoryview]) -> SharedBlock:
    """Copy the parts into one new block."""
    lengths = [part.nbytes for part in parts]
    head = struct.pack(f"{len(parts) + 1}Q", len(parts), *lengths)
    offsets = _offsets(len(head), lengths)
    spot = allocate_block(offsets[-1])
    with memoryview(spot) as view:
        view[: len(head)] = head
        for part, offset in zip(parts, offsets, strict=False):
            fill(spot, view, offset, part)
    return spot


def _offsets(head: int, lengths: list[int]) -> list[int]:
    """The offset of each part, and the end."""
    sizes = [_whole_lines(size) for size in (head, *lengths)]
    return list(accumulate(sizes))


def _whole_lines(size: int) -> int:
    return -(-size // LINE) * LINE


def _parts(spot: SharedBlock) -> list[SharedBlock]:
    """The parts, as read-only views that keep the memory."""
    with memoryview(spot) as view:
        (count,) = struct.unpack_from("Q", view)
        lengths = list(struct.unpack_from(f"{count}Q", view, 8))
    places = zip(_offsets(8 * (count + 1), lengths), lengths, strict=False)
    return [spot.part(offset, length, readonly=True) for offset, length in places]


class Shared(Transferable, Generic[T]):
    """A handle of an object in shared memory, made by `share`.

    The memory lives as long as any process has a handle of it, or a view into it.

    Examples
    --------
    >>> from garrison import share
    >>> table = share({"a": 1})
    >>> table.get()
    {'a': 1}
    """

    __slots__ = ("__weakref__", "_inner", "_spot")

    def __init__(self, spot: SharedBlock, inner: list[SharedBlock | Kept]) -> None:
        self._spot: SharedBlock | None = spot
        self._inner = inner  # the blocks of handles inside of the object

    def get(self) -> T:
        """Return the object, built around views of the shared memory: no large buffer is copied.

        Raises
        ------
        ValueError
            If the handle is closed.
        """
        payload, *buffers = _parts(self._open())
        with memoryview(payload) as view:
            obj: T = pickle.loads(view, buffers=buffers)  # noqa: S301 - written by a process of the program
        return obj

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory that the object takes."""
        return len(self._open())

    @property
    def closed(self) -> bool:
        """Whether it was closed here."""
        return self._spot is None

    def close(self) -> None:
        """Release the memory; objects that ``get()`` returned keep it.

        Sent handles that have not arrived are invalid afterwards. Without `close` they keep the
        memory until they arrive, as long as this process lives.
        """
        if self._spot is not None:
            self._spot.forget_exports()
            self._spot = None
            self._inner = []

    def _open(self) -> SharedBlock:
        if self._spot is None:
            msg = "this handle of a shared object is closed: share the object again"
            raise ValueError(msg)
        return self._spot

    def __enter__(self) -> Shared[T]:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        assert_transfer(self)
        return Shared, (self._open(), [])

    def __repr__(self) -> str:
        return "<Shared, closed>" if self.closed else f"<Shared {self.nbytes:,} bytes>"


# --- Pickling ---------------------------------------------------------------------------------


def _reducers(inner: list[SharedBlock | Kept]) -> dict[Any, Any]:
    """Reducers that take out every buffer."""

    def reduce_spot(spot: SharedBlock) -> Any:
        # It is kept, since the number of its readers is not known.
        inner.append(spot)
        return handles.open_address, handles.address_of(spot)

    descriptors = Kept()
    inner.append(descriptors)
    reducers: dict[type, Any] = {
        **descriptors.first(),
        memoryview: _reduce_view,
        SharedBlock: reduce_spot,
    }
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None:
        reducers |= dict.fromkeys((numpy.ndarray, _ndarray._class()), _reduce_array)
    return reducers


def _reduce_view(view: memoryview) -> Any:
    flat = view if view.c_contiguous else memoryview(view.tobytes())
    return _view, (pickle.PickleBuffer(flat), view.format, view.shape)


def _view(buffer: Any, format_: Any, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(buffer)
    if not flat.nbytes or format_ not in NATIVE:
        return flat  # no other form is possible
    return flat.cast("B").cast(format_, shape)


def _reduce_array(array: Any) -> Any:
    """Freeze an array; numpy would put one with gaps into the pickle."""
    import numpy as np

    plain = array.view(np.ndarray)
    flags = plain.flags
    if not (plain.dtype.hasobject or flags.c_contiguous or flags.f_contiguous):
        plain = np.ascontiguousarray(plain)
    return plain.__reduce_ex__(5)


for _each in (Shared, share):
    _each.__module__ = "garrison.memory"
del _each
