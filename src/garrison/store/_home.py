"""A store as the processes of one machine reach it: directly, with nobody in between.

Its memory is a pair of files without names, or a folder of the user's. Every process that uses it
opens it once, signs for the containers that it looks at, and says that it lives by a byte that it
has locked in a third file: whose byte is free is dead, and what it had signed for is given back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections import deque
from multiprocessing import context, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison import _os
from garrison._core import ContainerGone, Store, StoreBusy
from garrison.errors import SharedMemoryGone
from garrison.memory import Spot
from garrison.memory._handles import Inherited
from garrison.store import _codec
from garrison.sync import Lock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Home", "create", "open_folder"]

BELLS = 4096
"""Bytes of the words that waiters sleep on."""
_homes: weakref.WeakValueDictionary[bytes, Home] = weakref.WeakValueDictionary()
"""Those that this process has open. A file must not be opened twice: closing one would drop the
locks of the other."""
_opening = threading.RLock()


class Files:
    """Where a store lies: three open files without names."""

    def __init__(self, data: int, lock: int, holders: int) -> None:
        self.descriptors = (data, lock, holders)
        self._pid = os.getpid()

    @classmethod
    def create(cls) -> Files:
        """Make three empty files in memory."""
        names = ("data", "lock", "holders")
        return cls(*(os.memfd_create(f"garrison-{name}", os.MFD_CLOEXEC) for name in names))

    @property
    def holders(self) -> int:
        """The file in which every process locks a byte."""
        return self.descriptors[2]

    def place(self) -> tuple[str, Callable[[], None]]:
        """Return a folder in which the files have names while they are being opened."""
        folder = tempfile.mkdtemp(prefix="garrison-")
        try:
            for name, fd in zip(("data.mdb", "lock.mdb"), self.descriptors, strict=False):
                os.symlink(f"/proc/self/fd/{fd}", f"{folder}/{name}")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder, lambda: shutil.rmtree(folder, ignore_errors=True)

    def handle(self) -> tuple[Any, ...]:
        """Say how another process gets at them."""
        popen: Any = context.get_spawning_popen()
        if popen is not None:
            return _inherited_files, tuple(Inherited(fd) for fd in self.descriptors)
        marks = tuple(_mark(fd) for fd in self.descriptors)
        return _foreign_files, (os.getpid(), self.descriptors, marks, _os.host())

    def close(self) -> None:
        """Let go of them, in the process that has opened them."""
        if self._pid == os.getpid():
            for fd in self.descriptors:
                os.close(fd)


def _mark(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _inherited_files(*duplicates: Any) -> Files:
    return Files(*(each.detach() for each in duplicates))


def _foreign_files(pid: int, fds: tuple[int, ...], marks: tuple[Any, ...], host: str) -> Files:
    if host != _os.host():
        msg = "this container lies in another machine's memory; reach it through its manager's address"
        raise SharedMemoryGone(msg)
    opened: list[int] = []
    try:
        for fd, mark in zip(fds, marks, strict=True):
            opened.append(_os.open_foreign(pid, fd))
            if _mark(opened[-1]) != mark:
                raise FileNotFoundError(f"descriptor {fd} is another file by now")  # noqa: TRY301
    except OSError as error:
        for fd in opened:
            os.close(fd)
        msg = f"process {pid}, which sent this container, is gone or cannot be looked at: {error}"
        raise SharedMemoryGone(msg) from error
    return Files(*opened)


class Folder:
    """Where a store lies: a folder of the user's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.holders = os.open(f"{path}/holders", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid()

    def place(self) -> tuple[str, Callable[[], None]]:
        """Return the folder; nothing is to be done afterwards."""
        return self.path, lambda: None

    def handle(self) -> tuple[Any, ...]:
        """Say how another process gets at it."""
        return Folder, (self.path,)

    def close(self) -> None:
        """Let go of it, in the process that has opened it."""
        if self._pid == os.getpid():
            os.close(self.holders)


class Home:
    """A store, open in this process: `engine` has the operations, `faces` what is in use here."""

    def __init__(
        self, uuid: bytes, files: Files | Folder, shared: tuple[Any, Any], settings: dict[str, Any]
    ) -> None:
        self.uuid = uuid
        self.faces: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._files = files
        self._lock, self._bells = shared
        self._settings = settings
        self._dropped: deque[int] = deque()
        self._witness = -1
        self._owner = self._sign()
        hooks = _codec.Hooks(uuid, self.container)
        self.engine = Store(
            files.place, hooks, self._lock._semlock, self._bells, owner=self._owner, **settings
        )
        self._pid = os.getpid()
        _by_engine[id(self.engine)] = weakref.ref(self)
        util.register_after_fork(self, Home._after_fork)

    # -- who looks at what ----------------------------------------------------------------------

    def _sign(self) -> int:
        """Lock a byte that nobody else has: its number is this process's signature."""
        if self._witness >= 0:
            os.close(self._witness)
        self._witness = os.open(
            f"/proc/self/fd/{self._files.holders}", os.O_RDWR | os.O_CLOEXEC
        )
        owner = secrets.randbits(62) | 1
        while not _os.lock_byte(self._witness, owner):
            owner = secrets.randbits(62) | 1
        return owner

    def is_alive(self, owner: int) -> bool:
        """Whether the process that signs so still lives; this one does."""
        return owner == self._owner or _os.is_byte_locked(self._files.holders, owner)

    def _after_fork(self) -> None:
        """Sign for what was inherited: the parent may let go of it at any moment."""
        if self.faces:
            self.here()

    def here(self) -> Home:
        """Be this process's own, if it was inherited by a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._dropped.clear()
            self._owner = self._sign()
            self.engine.owner = self._owner
            for c in list(self.faces):
                with contextlib.suppress(ContainerGone):
                    self.engine.hold(c)
        return self

    def adopt(self, kind: int, c: int) -> Any:
        """Return the face of a container for which this process has signed."""
        from garrison.store import FACES

        face = FACES[kind](self.engine, c)
        self.faces[c] = face
        weakref.finalize(face, self._drop, c).atexit = False
        return face

    def container(self, kind: int, c: int, is_shared: bool) -> Any:
        """Return the face of a container that was read from another one."""
        known = self.faces.get(c)
        if known is not None:
            return known
        if is_shared:
            self.engine.hold(c)
            return self.adopt(kind, c)
        from garrison.store import FACES

        return FACES[kind](self.engine, c)

    def create(self, kind: int, aux: int = -1, info: bytes = b"") -> Any:
        """Return the face of a new container."""
        self.here()
        return self.adopt(kind, self.engine.create(kind, aux, info))

    def named(self, name: str, kind: int, aux: int = -1, info: bytes = b"") -> tuple[Any, bool]:
        """Return the face of the container of that name, and whether it is new."""
        c, created = self.here().engine.named(name, kind, aux, info)
        return self.container(kind, c, True), created

    def _drop(self, c: int) -> None:
        """A face is gone: runs wherever the interpreter collects it, so it must not wait."""
        if self._pid != os.getpid() or c in self.faces:
            return
        self._dropped.append(c)
        self.flush()

    def flush(self) -> None:
        """Give back what this process does not look at any more, unless the store is busy."""
        quick = self.engine.view(self._owner, raw=False, wait=False)
        while self._dropped:
            c = self._dropped.popleft()
            if c in self.faces:
                continue
            try:
                quick.drop(c)
            except StoreBusy:
                self._dropped.append(c)
                return
            except ContainerGone:
                continue

    # -- how it travels ---------------------------------------------------------------------------

    def send(self, c: int) -> int:
        """Keep a container until somebody has received what is being written about it."""
        self.here().engine.hold(c)
        return self._owner

    def received(self, kind: int, c: int, sender: int) -> Any:
        """Return the face of a container that another process has sent."""
        self.here()
        face = self.faces.get(c)
        if face is None:
            self.engine.hold(c)
            face = self.adopt(kind, c)
        with contextlib.suppress(ContainerGone):
            self.engine.view(sender, raw=False, wait=True).drop(c)
        return face

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = self._files.handle()
        return _arrive, (self.uuid, make, arguments, (self._lock, self._bells), self._settings)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            _by_engine.pop(id(self.engine), None)
            if self._pid == os.getpid():
                self.engine.close()
                os.close(self._witness)
                self._files.close()


_by_engine: dict[int, weakref.ref[Home]] = {}


def home_of(engine: Any) -> Home:
    """Return the home of an engine."""
    home = _by_engine[id(engine)]()
    if home is None:
        raise ReferenceError("the store of this container is closed")
    return home


def _arrive(uuid: bytes, make: Any, arguments: Any, shared: Any, settings: Any) -> Home:
    with _opening:
        known = _homes.get(uuid)
        if known is None:
            known = _homes[uuid] = Home(uuid, make(*arguments), shared, settings)
        return known


def _shared() -> tuple[Lock, Spot]:
    return Lock(on_abandon="ignore"), Spot(BELLS)


def create(size: int | None = None) -> Home:
    """Make a store in memory; it is gone with the last process that has it."""
    settings = {"size": size or _room(), "in_memory": True, "sync": False}
    uuid = secrets.token_bytes(16)
    home = _homes[uuid] = Home(uuid, Files.create(), _shared(), settings)
    return home


def open_folder(path: str | os.PathLike[str], *, sync: bool, size: int | None = None) -> Home:
    """Open the store in a folder, which is made if need be."""
    place = Path(path).absolute()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = place.stat()
    uuid = f"{status.st_dev:x}.{status.st_ino:x}".encode().ljust(16, b"\\0")[:16]
    settings = {"size": size or _disk(place), "in_memory": False, "sync": sync}
    return _arrive(uuid, Folder, (str(place),), _shared(), settings)


def _room() -> int:
    """Address space for a store in memory: as much as there is memory, in whole megabytes."""
    return max(1 << 30, _os.total_memory() >> 20 << 20)


def _disk(place: Path) -> int:
    status = os.statvfs(place)
    return max(1 << 30, status.f_blocks * status.f_frsize >> 20 << 20)
