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
from collections import Counter, deque
from multiprocessing import context, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from garrison import _os
from garrison._core import ContainerGone, Store, StoreBusy, encode_key
from garrison.errors import SharedMemoryGone
from garrison.memory import Spot
from garrison.memory._handles import Inherited
from garrison.store._codec import Codec
from garrison.store._create import FACES, make
from garrison.store._meeting import Meeting
from garrison.sync import Lock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Folder", "Home", "Tenancy", "create", "open_folder", "rent", "sweep_folders"]

BELLS = 4096
"""Bytes of the words that waiters sleep on."""
_homes: weakref.WeakValueDictionary[bytes, Home] = weakref.WeakValueDictionary()
"""Those that this process has open. A file must not be opened twice: closing one would drop the
locks of the other."""
_opening = threading.RLock()


OPENING = "garrison-opening-"
"""What the names of folders begin with that last as long as a store is being opened."""


def sweep_folders() -> None:
    """Remove the folders of processes that were killed while they opened a store."""
    for entry in os.scandir(tempfile.gettempdir()):
        pid = entry.name.removeprefix(OPENING).partition("-")[0]
        if entry.name.startswith(OPENING) and pid.isdigit() and not _os.stat_fields(int(pid)):
            shutil.rmtree(entry.path, ignore_errors=True)


class Files:
    """Where a store lies: three open files without names."""

    def __init__(self, data: int, lock: int, holders: int) -> None:
        self.descriptors = (data, lock, holders)

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
        folder = tempfile.mkdtemp(prefix=f"{OPENING}{os.getpid()}-")
        try:
            for name, fd in zip(("data.mdb", "lock.mdb"), self.descriptors, strict=False):
                Path(folder, name).symlink_to(f"/proc/self/fd/{fd}")
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

    def opened(self, shared: tuple[Any, Any]) -> None:
        """Nobody finds them but through a handle."""

    def close(self) -> None:
        """Let go of them."""
        for fd in self.descriptors:
            os.close(fd)


def _mark(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _inherited_files(*duplicates: Any) -> Files:
    return Files(*(each.detach() for each in duplicates))


def _foreign_files(pid: int, fds: tuple[int, ...], marks: tuple[Any, ...], host: str) -> Files:
    if host != _os.host():
        msg = "this container lies on another machine; reach it through its manager's address"
        raise SharedMemoryGone(msg)
    opened: list[int] = []
    try:
        for fd, mark in zip(fds, marks, strict=True):
            opened.append(_os.open_foreign(pid, fd))
            if _mark(opened[-1]) != mark:
                raise FileNotFoundError(f"descriptor {fd} is another file by now")
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

    def place(self) -> tuple[str, Callable[[], None]]:
        """Return the folder; nothing is to be done afterwards."""
        return self.path, lambda: None

    def handle(self) -> tuple[Any, ...]:
        """Say how another process gets at it."""
        return Folder, (self.path,)

    def opened(self, shared: tuple[Any, Any]) -> None:
        """Tell who opens it later where this process has what they are to share."""
        with Meeting(self.path, self.holders) as meeting:
            meeting.leave_note(shared)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.holders)


SAYING = 200
"""Bytes at the beginning of the file of holders that say who serves the folder."""


class Tenancy:
    """The right to serve a folder, which one server at a time has; it ends with whoever has it.

    Raises
    ------
    StoreBusy
        If another server has it; the message says which.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(f"{path}/holders", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Signatures are odd, so this byte is nobody's.
        if not _os.lock_byte(self._fd, 0):
            who = os.pread(self._fd, SAYING, 0).decode(errors="replace").strip("\0 ")
            self.close()
            raise StoreBusy(
                f"{path} is served by {who or 'another process'}: connect to that (garrison."
                "connect), or stop it first"
            )
        self.say(f"process {os.getpid()}")

    def say(self, who: str) -> None:
        """Tell others who has it."""
        os.pwrite(self._fd, who.encode()[:SAYING].ljust(SAYING), 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return _passed_on, (Inherited(self._fd),)

    def close(self) -> None:
        """Let go of it, in this process."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def _passed_on(duplicate: Any) -> Tenancy:
    tenancy = Tenancy.__new__(Tenancy)
    tenancy._fd = duplicate.detach()
    return tenancy


class _Hooks(Codec):
    """What the engine leaves to Python, and whose engine it is."""

    def __init__(self, home: Home) -> None:
        super().__init__(home.uuid, encode_key, home.container)
        self._home = weakref.ref(home)

    @property
    def home(self) -> Home:
        """The store of a face's engine."""
        home = self._home()
        if home is None:
            raise ReferenceError("the store of this container is closed")
        return home


class Home:
    """A store, open in this process: `engine` has its operations."""

    is_home = True

    def __init__(
        self, uuid: bytes, files: Files | Folder, shared: tuple[Any, Any], settings: dict[str, Any]
    ) -> None:
        self.uuid = uuid
        self._files = files
        self._lock, self._bells = shared
        self._settings = settings
        self._held: Counter[int] = Counter()
        self._dropped: deque[int] = deque()
        self._holding = threading.RLock()
        self._pid = os.getpid()
        self._guests: set[int] = set()
        self._witness, self._owner = self._sign()
        hooks: Any = _Hooks(self)
        self.engine = Store(
            files.place, hooks, self._lock._semlock, self._bells, owner=self._owner, **settings
        )
        util.register_after_fork(self, Home._after_fork)

    # -- who looks at what ------------------------------------------------------------------------

    def _sign(self) -> tuple[int, int]:
        """Lock a byte that nobody else has, as long as this process lives: its signature."""
        witness = os.open(f"/proc/self/fd/{self._files.holders}", os.O_RDWR | os.O_CLOEXEC)
        while True:
            owner = secrets.randbits(62) | 1
            if _os.lock_byte(witness, owner):
                return witness, owner

    def sign_for_guest(self) -> int:
        """Return a signature for a session of the server in this process."""
        while True:
            owner = secrets.randbits(62) | 1
            if owner not in self._guests and _os.lock_byte(self._witness, owner):
                self._guests.add(owner)
                return owner

    def forget_guest(self, owner: int) -> None:
        """Unlock the byte of a session that is over."""
        self._guests.discard(owner)
        _os.unlock_byte(self._witness, owner)

    def is_alive(self, owner: int) -> bool:
        """Whether the process or the guest that signs so still lives; asked by the server."""
        # One's own locks are not seen.
        ours = owner == self._owner or owner in self._guests
        return ours or _os.is_byte_locked(self._witness, owner)

    def _after_fork(self) -> None:
        """Sign for what was inherited: the parent may let go of it at any moment.

        Without that, too: the parent's signature must not outlive it here.
        """
        self.here()

    def here(self) -> Home:
        """Be this process's own, if it was inherited by a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            os.close(self._witness)
            self._holding = threading.RLock()
            self._dropped.clear()
            self._guests.clear()
            self._witness, self._owner = self._sign()
            self.engine.owner = self._owner
            for c in list(self._held):
                with contextlib.suppress(ContainerGone):
                    self.engine.hold(c)
        return self

    def track(self, face: Any) -> Any:
        """Let go of a container, for which this process has signed, when its last face is gone."""
        self._held[face._c] += 1
        weakref.finalize(face, self._drop, face._c).atexit = False
        return face

    def container(self, kind: int, c: int, is_shared: bool) -> Any:
        """Return the face of a container that was read from another one."""
        face = FACES[kind](self.engine, c)
        return self._signed(face) if is_shared else face

    def _signed(self, face: Any) -> Any:
        with self._holding:
            if not self._held[face._c]:
                self.here().engine.hold(face._c)
            return self.track(face)

    def make(self, kind: int, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Return the face of a new container, or of the one that has the name already."""
        face = make(self.here().engine, kind, *args, name=name, **kwargs)
        # One that has a name needs nobody to hold it.
        return self.track(face) if name is None else face

    def _drop(self, c: int) -> None:
        """A face is gone: runs wherever the interpreter collects it, so it must not wait."""
        if self._pid != os.getpid():
            return
        self._held[c] -= 1
        if not self._held[c]:
            self._dropped.append(c)
            self.flush()

    def flush(self) -> None:
        """Give back what this process does not look at any more, unless the store is busy."""
        if not self._holding.acquire(blocking=False):
            return
        try:
            quick = self.engine.view(self._owner, raw=False, wait=False)
            while self._dropped:
                c = self._dropped[0]
                if not self._held[c]:
                    quick.drop(c)
                    del self._held[c]
                self._dropped.popleft()
        except (StoreBusy, IndexError):
            pass
        finally:
            self._holding.release()

    # -- how it travels ---------------------------------------------------------------------------

    def written(self, face: Any) -> tuple[Any, ...]:
        """Write a face down. The container is kept until somebody has received it."""
        self.here().engine.hold(face._c)
        return _received, (self, type(face)._KIND, face._c, self._owner)

    def received(self, kind: int, c: int, sender: int) -> Any:
        """Return the face of a container that another process has sent."""
        face = self._signed(FACES[kind](self.here().engine, c))
        with contextlib.suppress(ContainerGone):
            self.engine.view(sender, raw=False, wait=True).drop(c)
        return face

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = self._files.handle()
        return _arrive, (self.uuid, make, arguments, (self._lock, self._bells), self._settings)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if self._pid == os.getpid():
                self.engine.close()
            os.close(self._witness)
            self._files.close()


def _received(home: Any, kind: int, c: int, sender: int) -> Any:
    return home.received(kind, c, sender)


def _arrive(uuid: bytes, make: Any, arguments: Any, shared: Any, settings: Any) -> Home:
    with _opening:
        known = _homes.get(uuid)
        if known is None:
            files = make(*arguments)
            known = _homes[uuid] = Home(uuid, files, shared, settings)
            files.opened(shared)
        return known


def _shared() -> tuple[Lock, Spot]:
    return Lock(on_abandon="ignore"), Spot(BELLS)


def create(size: int | None = None) -> Home:
    """Make a store in memory; it is gone with the last process that has it."""
    settings = {"size": size or _room(), "in_memory": True, "sync": False}
    uuid = secrets.token_bytes(16)
    home = _homes[uuid] = Home(uuid, Files.create(), _shared(), settings)
    return home


def rent(path: str | os.PathLike[str]) -> Tenancy:
    """Get the right to serve a folder, which is made if need be."""
    place = Path(path).absolute()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Tenancy(str(place))


def open_folder(path: str | os.PathLike[str], *, sync: bool, size: int | None = None) -> Home:
    """Open the store in a folder."""
    place = Path(path).absolute()
    status = place.stat()
    uuid = f"{status.st_dev:x}.{status.st_ino:x}".encode().ljust(16, b"\0")[:16]
    settings = {"size": size or _disk(place), "in_memory": False, "sync": sync}
    with _opening:
        known = _homes.get(uuid)
        if known is None:
            known = _homes[uuid] = _met(uuid, Folder(str(place)), settings)
        return known


def _met(uuid: bytes, folder: Folder, settings: dict[str, Any]) -> Home:
    """Open a folder together with those who have it open already."""
    try:
        with Meeting(folder.path, folder.holders) as meeting:
            shared = meeting.find() or _shared()
            home = Home(uuid, folder, shared, settings)
            meeting.leave_note(shared)
    except BaseException:
        folder.close()
        raise
    return home


def _room() -> int:
    """Address space for a store in memory: as much as there is memory, in whole megabytes."""
    return max(1 << 30, _os.total_memory() >> 20 << 20)


def _disk(place: Path) -> int:
    status = os.statvfs(place)
    return max(1 << 30, status.f_blocks * status.f_frsize >> 20 << 20)
