"""Named shared memory, which unrelated processes can attach.

As `multiprocessing.shared_memory`, with these differences:

- a process that attaches a block and ends does not destroy it: only creators are tracked;
- the memory is reserved at creation, else `SharedMemoryFull` is raised;
- a name always refers to memory of its full size, even if the creator is killed;
- a `ShareableList` returns strings unchanged, including zero bytes at the end.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import operator
import os
import secrets
import struct
import types
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path

from garrison import _standard
from garrison._typing import TYPE_CHECKING, Any, TypedBase
from garrison.errors import SharedMemoryFull
from garrison.memory import _named
from garrison.memory.capacity import check_available

__all__ = ["ShareableList", "SharedMemory"]

if TYPE_CHECKING:
    from multiprocessing import shared_memory as _theirs
    from typing import Generic

    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)

    class ListBase(_theirs.ShareableList[Any], Generic[T]):
        """The standard class, with items of one type or of any."""

else:
    T = None
    _theirs = _standard.load("shared_memory")
    ListBase = TypedBase(_theirs.ShareableList)
_USE_POSIX = True
_SHM_NAME_PREFIX = "/psm_"
_TRACKED = "shared_memory"


def _make_filename() -> str:
    return _SHM_NAME_PREFIX + secrets.token_hex(4)


class SharedMemory(_theirs.SharedMemory):
    """A block of memory with a name.

    Parameters
    ----------
    name : str, optional
        Its name, without slashes. A new block without one is given one.
    create : bool
        Make a new block, instead of attaching one that exists.
    size : int
        Bytes of a new block.
    track : bool
        Whether the name is removed when the creating program (the process and its descendants) has
        ended without `unlink`. Attached blocks are never tracked.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If there is no block of that name; or, for a new one, if there is one.
    ValueError
        If the size is not positive, or there is no name to attach.
    OSError
        If the name is invalid.
    SharedMemoryFull
        If there is no room.

    Examples
    --------
    >>> from garrison.shared_memory import SharedMemory
    >>> block = SharedMemory(create=True, size=16)
    >>> block.buf[:5] = b"hello"
    >>> other = SharedMemory(block.name)  # in another process
    >>> bytes(other.buf[:5])
    b'hello'
    >>> other.close()
    >>> block.close()
    >>> block.unlink()
    """

    _name: str | None = None
    _fd = -1
    _mmap: mmap.mmap | None = None
    _buf: memoryview | None = None
    _size = 0
    _flags = os.O_RDWR
    _mode = 0o600
    _prepend_leading_slash = True
    _close_fd = staticmethod(os.close)
    """Close the block. At the end of an interpreter the module may be empty already."""

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        if not size >= 0:
            raise ValueError(f"'size' must be a positive integer, not {size}")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        if create:
            self._create(name, operator.index(size), track=track)
        else:
            self._attach(name)
        try:
            self._size = os.fstat(self._fd).st_size
            self._mmap = mmap.mmap(self._fd, self._size)
        except BaseException:
            self._close_descriptor()
            if create:
                self.unlink()
            raise
        self._buf = memoryview(self._mmap)

    def _create(self, name: str | None, size: int, *, track: bool) -> None:
        check_available(size)
        if name is not None:
            self._try_create(f"/{name}", size, track=track)
        while name is None and self._name is None:
            with contextlib.suppress(FileExistsError):
                self._try_create(_make_filename(), size, track=track)

    def _try_create(self, name: str, size: int, *, track: bool) -> None:
        path = _named.shm_path(name)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if track:
            # Before it exists: else it would stay for ever if this process died in between.
            resource_tracker.register(name, _TRACKED)
        try:
            self._fd = _named.create_shm_file(path, size, self._mode)
        except BaseException as error:
            if track:
                resource_tracker.unregister(name, _TRACKED)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.ENOMEM}:
                msg = f"no room for {size:,} bytes in {_named.NAMED}: {error.strerror}"
                raise SharedMemoryFull(msg) from error
            raise
        self._name = name

    def _attach(self, name: str | None) -> None:
        full = _make_filename() if name is None else f"/{name}"
        path = _named.shm_path(full)
        self._fd = os.open(path, self._flags | os.O_CLOEXEC | os.O_NOFOLLOW, self._mode)
        self._name = full

    def __del__(self) -> None:
        # The mapping is freed with the last view of it.
        self._buf = self._mmap = None
        self._close_descriptor()

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> Any:
        """A memory view of the block; None once it is closed."""
        return self._buf

    @property
    def name(self) -> Any:
        """The name by which processes attach the block."""
        return self._name[1:] if self._name is not None else None

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return self._size

    def close(self) -> None:
        """Close the block in this process; other processes keep it.

        Raises
        ------
        BufferError
            If a view of the block exists (a slice of `buf`, an array on it). Nothing has changed
            then.
        """
        if self._buf is not None:
            self._buf.release()
            self._buf = None
        if self._mmap is not None:
            try:
                self._mmap.close()
            except BufferError:
                self._buf = memoryview(self._mmap)
                raise
            self._mmap = None
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._fd >= 0:
            self._close_fd(self._fd)
            self._fd = -1

    def unlink(self) -> None:
        """Remove the name: the block cannot be attached any more. Attached blocks remain.

        Raises
        ------
        FileNotFoundError
            If the name was removed already.
        """
        if self._name is None:
            return
        try:
            Path(_named.shm_path(self._name)).unlink()
        finally:
            _forget(self._name)


def _forget(name: str) -> None:
    """Unregister a name from this process's tracker, if there is one."""
    if getattr(resource_tracker._resource_tracker, "_fd", None) is not None:
        # The tracker would complain about an unknown name.
        resource_tracker.register(name, _TRACKED)
        resource_tracker.unregister(name, _TRACKED)


# --- Lists ------------------------------------------------------------------------------------

_MAGIC = int.from_bytes(b"garrlist", "little")
_HEAD = struct.Struct("=QQ")  # magic, which is written last; how many items
_ITEM = struct.Struct("=QQQQ")  # offset, room, length, kind
_WORD = 8
_INT, _FLOAT, _BOOL, _NONE, _STR, _BYTES = range(6)
_FORMATS = {_INT: "q", _FLOAT: "d", _BOOL: "xxxxxxx?", _NONE: "xxxxxx?x"}


class ShareableList(ListBase[T]):
    r"""A list of fixed length in shared memory with a name.

    Parameters
    ----------
    sequence : iterable, optional
        Its items: `int` of 64 bits, `float`, `bool`, `str`, `bytes` and None.
    name : str, optional
        The name of a new list, or, without `sequence`, of the list to attach.

    Notes
    -----
    An item may be replaced by one of any of these types. A string must fit into the space of the
    first item: its length, rounded up to the next larger multiple of 8. The list has no lock.

    Examples
    --------
    >>> from garrison.shared_memory import ShareableList
    >>> row = ShareableList(["tea", 2.5, b"\x01\x00"])
    >>> row[1] = 3
    >>> list(row)
    ['tea', 3, b'\x01\x00']
    >>> row.shm.close()
    >>> row.shm.unlink()
    """

    def __init__(self, sequence: Iterable[T] | None = None, *, name: str | None = None) -> None:
        if name is None or sequence is not None:
            self._write(list(sequence or ()), name)
        else:
            self.shm: SharedMemory = SharedMemory(name)
            self._length = self._checked_length()

    def _write(self, items: list[Any], name: str | None) -> None:
        encoded = [_encode(item) for item in items]
        rooms = [_room(item, len(data)) for item, (_, data) in zip(items, encoded, strict=True)]
        offset = _HEAD.size + _ITEM.size * len(items)
        self._length = len(items)
        self.shm = SharedMemory(name, create=True, size=offset + sum(rooms))
        for position, ((kind, data), room) in enumerate(zip(encoded, rooms, strict=True)):
            self._put(position, (offset, room, len(data), kind), data)
            offset += room
        _HEAD.pack_into(self.shm.buf, 0, _MAGIC, self._length)

    def _checked_length(self) -> int:
        """Return the length of the list that another process has made."""
        size = self.shm.size
        magic, length = _HEAD.unpack_from(self.shm.buf) if size >= _HEAD.size else (0, 0)
        if magic != _MAGIC or _HEAD.size + _ITEM.size * length > size:
            name = self.shm.name
            self.shm.close()
            msg = f"{name!r} is no ShareableList of garrison's, or is not written yet"
            raise ValueError(msg)
        return int(length)

    def _put(self, position: int, item: tuple[int, int, int, int], data: bytes) -> None:
        self.shm.buf[item[0] : item[0] + len(data)] = data
        _ITEM.pack_into(self.shm.buf, _HEAD.size + _ITEM.size * position, *item)

    def _item(self, position: int) -> tuple[int, int, int, int]:
        place = _HEAD.size + _ITEM.size * position
        offset, room, length, kind = _ITEM.unpack_from(self.shm.buf, place)
        return offset, room, length, kind

    def _position(self, index: Any, complaint: str) -> int:
        position = operator.index(index)
        position += self._length if position < 0 else 0
        if not 0 <= position < self._length:
            raise IndexError(complaint)
        return position

    def __getitem__(self, index: int) -> T:
        offset, _room, length, kind = self._item(self._position(index, "index out of range"))
        item: T = _decode(kind, bytes(self.shm.buf[offset : offset + length]))
        return item

    def __setitem__(self, index: int, value: T) -> None:
        position = self._position(index, "assignment index out of range")
        kind, data = _encode(value)
        offset, room, _length, _kind = self._item(position)
        if len(data) > room:
            msg = (
                f"bytes/str item exceeds available storage: {len(data)} bytes for a room of {room}"
            )
            raise ValueError(msg)
        self._put(position, (offset, room, len(data), kind), data)

    def __iter__(self) -> Iterator[T]:
        return (self[position] for position in range(self._length))

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(self.__class__, name=self.shm.name), ()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self)}, name={self.shm.name!r})"

    def _get_packing_format(self, index: int) -> str:
        _offset, room, _length, kind = self._item(
            self._position(index, "Requested position out of range.")
        )
        return _FORMATS.get(kind, f"{room}s")

    @property
    def format(self) -> str:
        """The types of the items and their sizes, as a format of `struct`."""
        return "".join(self._get_packing_format(position) for position in range(self._length))

    def count(self, value: Any) -> int:
        """The number of items that are equal to a value."""
        return sum(value == item for item in self)

    def index(self, value: Any) -> int:
        """Return the position of the first item that is equal to a value.

        Raises
        ------
        ValueError
            If there is none.
        """
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__: Any = classmethod(types.GenericAlias)


def _encode(value: Any) -> tuple[int, bytes]:
    """Return an item's kind and its bytes."""
    if value is None:
        return _NONE, bytes(_WORD)
    if isinstance(value, str):
        return _STR, value.encode()
    if isinstance(value, bytes):
        return _BYTES, bytes(value)
    if isinstance(value, bool):
        return _BOOL, struct.pack("=q", value)
    if isinstance(value, int):
        return _INT, struct.pack("=q", value)
    if isinstance(value, float):
        return _FLOAT, struct.pack("=d", value)
    msg = f"a ShareableList holds int, float, bool, str, bytes and None, not {type(value).__name__}"
    raise TypeError(msg)


def _room(item: Any, size: int) -> int:
    """The bytes reserved for an item: as in the standard library, or its size."""
    usual = len(item) // _WORD + 1 if isinstance(item, (str, bytes)) else 1
    return _WORD * max(usual, -(-size // _WORD))


def _decode(kind: int, data: bytes) -> Any:
    if kind == _NONE:
        return None
    if kind == _STR:
        return data.decode()
    if kind == _BYTES:
        return data
    value = struct.unpack("=d" if kind == _FLOAT else "=q", data)[0]
    return bool(value) if kind == _BOOL else value


_standard.hide(SharedMemory, "garrison opens and maps memory in its own way")
_standard.hide(ShareableList, "its items lie in shared memory in another order")

SharedMemory.__module__ = ShareableList.__module__ = "garrison.shared_memory"
