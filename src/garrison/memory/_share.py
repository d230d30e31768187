"""`share`: an object frozen once into shared memory, for any number of readers.

    | lengths: how many, pickle, buffer, buffer ... | pickle | buffer | buffer ...

Each part starts on a cache line. The pickle is what pickle protocol 5 leaves when it takes the
buffers out; a reader rebuilds the object around views of the buffers where they lie.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
from itertools import accumulate
from typing import Generic, TypeVar

from garrison._pickling import STANDARD, Kept, Transferable, assert_transfer, dumps_apart
from garrison._typing import Any
from garrison.memory import _ndarray, handles
from garrison.memory.capacity import allocate_block
from garrison.memory.handles import Spot

__all__ = ["Shared", "share"]

T = TypeVar("T")
LINE = 64
LARGE = 1 << 16
PIECE = 1 << 26
"""Between two of them Ctrl-C is looked at."""
NATIVE = frozenset("cbB?hHiIlLqQnNfd")
"""Formats that a memory view can be cast to."""


def share(obj: T) -> Shared[T]:
    """Freeze an object into shared memory, once, for any number of processes.

    Parameters
    ----------
    obj
        Anything that can be pickled. The buffers that pickle protocol 5 takes out of it (of numpy
        arrays, pandas frames, pyarrow tables, alone or inside of lists, dicts and your own classes)
        and those of `memoryview` are copied once, here. For `bytes` and `bytearray` see Notes.

    Returns
    -------
    Shared
        A handle: its ``get()`` gives the object. Passed to a process, a task, or through a queue it
        costs a reference, however large the object is.

    Raises
    ------
    TypeError, pickle.PicklingError
        If it cannot be pickled; whatever pickle raises.
    SharedMemoryFull
        If there is no room.

    Notes
    -----
    What ``get()`` gives is read-only where it lies in shared memory: a numpy array is not writable.
    The rest (the dict around it, say) is built anew by each ``get()``, and is the caller's own.

    No `bytes` object can lie in another's memory. If `obj` is itself `bytes`, `bytearray` or a
    `memoryview`, of any size, ``get()`` gives a read-only `memoryview`. Inside of other objects
    `bytes` stay `bytes`, and each ``get()`` copies them: put ``memoryview(data)`` in their place,
    and it arrives as a read-only `memoryview` that is not copied.

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


def _serialize_frozen(obj: object) -> tuple[Spot, list[Spot | Kept]]:
    """Write an object down; return where, and where handles inside of it lead to."""
    inner: list[Spot | Kept] = []
    data, buffers = dumps_apart(obj, STANDARD, 0, _reducers(inner), frozen=True)
    try:
        return _write([memoryview(data), *(buffers or ())]), inner
    finally:
        # A view of a view must not become garbage together with it, as in the traceback of an error
        # in a cycle: CPython's collector clears one under the other.
        for view in buffers or ():
            view.release()


def _write(parts: list[memoryview]) -> Spot:
    """Copy the parts into one place of their own."""
    lengths = [part.nbytes for part in parts]
    head = struct.pack(f"{len(parts) + 1}Q", len(parts), *lengths)
    offsets = _offsets(len(head), lengths)
    spot = allocate_block(offsets[-1])
    with memoryview(spot) as view:
        view[: len(head)] = head
        for part, offset in zip(parts, offsets, strict=False):
            written = _write_file(spot, offset, part)
            view[offset + written : offset + part.nbytes] = part[written:]
    return spot


def _write_file(spot: Spot, offset: int, part: memoryview) -> int:
    """Write a large part as to a file, without page faults here; return how much of it."""
    written = 0
    # Under a limit on the sizes of files not all can be had in this way.
    with contextlib.suppress(OSError):
        while part.nbytes - written >= LARGE:
            place = spot.offset + offset + written
            written += os.pwrite(spot.chunk[2], part[written : written + PIECE], place)
    return written


def _offsets(head: int, lengths: list[int]) -> list[int]:
    """Where each part begins, and where all ends."""
    sizes = [_whole_lines(size) for size in (head, *lengths)]
    return list(accumulate(sizes))


def _whole_lines(size: int) -> int:
    return -(-size // LINE) * LINE


def _parts(spot: Spot) -> list[Spot]:
    """What was written, as read-only places that each keep the memory."""
    with memoryview(spot) as view:
        (count,) = struct.unpack_from("Q", view)
        lengths = list(struct.unpack_from(f"{count}Q", view, 8))
    places = zip(_offsets(8 * (count + 1), lengths), lengths, strict=False)
    return [spot.part(offset, length, readonly=True) for offset, length in places]


class Shared(Transferable, Generic[T]):
    """A handle of an object in shared memory, made by `share`.

    The memory is there as long as any process has a handle of it, or a view of what is inside.
    """

    __slots__ = ("__weakref__", "_inner", "_spot")

    def __init__(self, spot: Spot, inner: list[Spot | Kept]) -> None:
        self._spot: Spot | None = spot
        self._inner = inner  # what handles inside of the object lead to

    def get(self) -> T:
        """Return the object, built around views of the shared memory: no large buffer is copied.

        Raises
        ------
        ValueError
            If the handle is closed.
        """
        payload, *buffers = _parts(self._open())
        with memoryview(payload) as view:
            obj: T = pickle.loads(view, buffers=buffers)
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
        """Let go of the memory; objects that ``get()`` gave keep it.

        Handles that were sent and have not yet arrived lead nowhere afterwards. Without `close`,
        they keep the memory until they arrive, for as long as this process lives.
        """
        if self._spot is not None:
            self._spot.forget_exports()
            self._spot = None
            self._inner = []

    def _open(self) -> Spot:
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


def _reducers(inner: list[Spot | Kept]) -> dict[Any, Any]:
    """How to take out every buffer that can be taken out."""

    def reduce_spot(spot: Spot) -> Any:
        # Its readers are many: it is kept for them, and their number is not known.
        inner.append(spot)
        return handles.open_address, handles.address_of(spot)

    descriptors = Kept()
    inner.append(descriptors)
    reducers: dict[type, Any] = {**descriptors.first(), memoryview: _reduce_view, Spot: reduce_spot}
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
        return flat  # in another form it cannot be had
    return flat.cast("B").cast(format_, shape)


def _reduce_array(array: Any) -> Any:
    """Freeze an array as it is: numpy would put one with gaps into the pickle."""
    import numpy as np

    plain = array.view(np.ndarray)
    flags = plain.flags
    if not (plain.dtype.hasobject or flags.c_contiguous or flags.f_contiguous):
        plain = np.ascontiguousarray(plain)
    return plain.__reduce_ex__(5)


for _each in (Shared, share):
    _each.__module__ = "garrison.memory"
del _each
