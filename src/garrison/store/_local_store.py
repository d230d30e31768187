"""A store as the processes of one machine reach it: directly, with nobody in between.

Its memory is a pair of files without names, or a folder of the user's. Every process that uses it
opens it once, signs for the containers that it looks at, and says that it lives by a byte that it
has locked in a third file: whose byte is free is dead, and what it had signed for is given back.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import weakref
from collections import Counter, deque
from multiprocessing import util
from pathlib import Path

from garrison import _os
from garrison._byte_locks import ByteLocks
from garrison._core import Store, encode_key
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, StoreBusy
from garrison.store import _backups
from garrison.store._codec import Codec
from garrison.store._factory import FACES, make
from garrison.store._files import Files, Folder, Tenancy
from garrison.store._rendezvous import Meeting, fresh

if TYPE_CHECKING:
    from garrison.store._rendezvous import Shared

__all__ = ["Folder", "Home", "Tenancy", "create", "open_folder", "rent"]

_homes: weakref.WeakValueDictionary[bytes, Home] = weakref.WeakValueDictionary()
"""Those that this process has open. A file must not be opened twice: closing one would drop the
locks of the other."""
_opening = threading.RLock()
os.register_at_fork(after_in_child=_opening._at_fork_reinit)  # type: ignore[attr-defined]


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
        self, uuid: bytes, files: Files | Folder, shared: Shared, settings: dict[str, Any]
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

    def _sign(self) -> tuple[ByteLocks, int]:
        """Lock a byte that nobody else has, as long as this process lives: its signature."""
        self._files.recover()
        witness = ByteLocks.of(self._files.holders)
        while True:
            owner = secrets.randbits(62) | 1
            if witness.lock(owner):
                return witness, owner

    def sign_for_guest(self) -> int:
        """Return a signature for a session of the server in this process."""
        while True:
            owner = secrets.randbits(62) | 1
            if owner not in self._guests and self._witness.lock(owner):
                self._guests.add(owner)
                return owner

    def forget_guest(self, owner: int) -> None:
        """Unlock the byte of a session that is over."""
        self._guests.discard(owner)
        self._witness.unlock(owner)

    def is_alive(self, owner: int) -> bool:
        """Whether the process or the guest that signs so still lives; asked by the server."""
        # One's own locks are not seen.
        ours = owner == self._owner or owner in self._guests
        return ours or self._witness.is_locked(owner)

    def _after_fork(self) -> None:
        """Sign for what was inherited: the parent may let go of it at any moment.

        Without that, too: the parent's signature must not outlive it here.
        """
        self.here()

    def here(self) -> Home:
        """Be this process's own, if it was inherited by a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._witness.close()
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
        face: Any = FACES[kind](self.engine, c)
        face._nested = not is_shared
        return self._signed(face) if is_shared else face

    def _signed(self, face: Any) -> Any:
        engine = self.here().engine
        with self._holding:
            if not self._held[face._c]:
                engine.hold(face._c)
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
        make, arguments = self._files.handle((self._lock, self._bells))
        return _arrive, (self.uuid, make, arguments, self._settings)

    def __del__(self) -> None:
        try:
            if self._pid == os.getpid():
                self.engine.close()
            self._witness.close()
            self._files.close()
        except Exception:  # noqa: S110 - at the end of an interpreter this module may be empty
            pass


def _received(home: Any, kind: int, c: int, sender: int) -> Any:
    return home.received(kind, c, sender)


def _arrive(uuid: bytes, make: Any, arguments: Any, settings: dict[str, Any]) -> Home:
    """Return the store that was sent, opened if this process does not have it yet."""
    with _opening:
        known = _homes.get(uuid)
        if known is None:
            files, shared = make(*arguments)
            known = _homes[uuid] = _opened(uuid, files, shared, settings)
        return known


def _opened(
    uuid: bytes, files: Files | Folder, shared: Shared | None, settings: dict[str, Any]
) -> Home:
    """Open a store; a folder, together with those who have it open already."""
    try:
        if shared is not None or isinstance(files, Files):
            return Home(uuid, files, shared or fresh(), settings)
        with Meeting(files.path) as meeting:
            met = meeting.find()
            if met is None:
                _backups.check(files.path, lambda: _audited(uuid, files, settings))
                met = fresh()
            home = Home(uuid, files, met, settings)
            _backups.settle(files.path)
            meeting.leave_note(met)
            return home
    except BaseException:
        files.close()
        raise


def _audited(uuid: bytes, files: Folder, settings: dict[str, Any]) -> list[str]:
    engine = Home(uuid, files, fresh(), settings).engine
    used, size = engine.statistics()["bytes_used"], Path(files.path, "data.mdb").stat().st_size
    return [f"{size} bytes of {used}"] if size < used else engine.audit()


def create(size: int | None = None) -> Home:
    """Make a store in memory; it is gone with the last process that has it."""
    settings = {"size": size or _room(), "in_memory": True, "sync": False}
    uuid = secrets.token_bytes(16)
    home = _homes[uuid] = _opened(uuid, Files.create(), None, settings)
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
    return _arrive(uuid, Folder.at, (str(place),), settings)


def _room() -> int:
    """Address space for a store in memory: as much as there is memory, in whole megabytes."""
    return max(1 << 30, _os.total_memory() >> 20 << 20)


def _disk(place: Path) -> int:
    status = os.statvfs(place)
    return max(1 << 30, status.f_blocks * status.f_frsize >> 20 << 20)
