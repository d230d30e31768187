"""A store on another machine: the same as at home, asked of its server.

`FarStore` knows whose containers are whose; `FarEngine` has the methods of the core's `Store`, and
the faces do not know which of the two they have.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from multiprocessing import util

from garrison import _core, _os
from garrison._typing import TYPE_CHECKING, Any
from garrison.errors import ContainerGone, ManagerLost, SharedMemoryGone
from garrison.manager._auth_keys import KNOWN_KEYS
from garrison.manager.client._client import get_client
from garrison.manager.client._remote_backend import FarEngine
from garrison.manager.client._restricted_unpickler import loads_plain
from garrison.net import Verb, format_address
from garrison.store import Codec
from garrison.store._factory import FACES, make
from garrison.store._references import Held

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FarStore", "far_or_home", "store_of"]

STORE = Verb.STORE


def far_or_home(client: Any, *, direct: bool) -> Any:
    """Return the store of a server: in memory, if it is on this machine and may be reached.

    What a server without a key sends is never unpickled: anybody may be that server.
    """
    if direct and client.has_key and isinstance(client.address, (str, tuple)):
        host, payload = client.ask(STORE, "home", idempotent=True)
        if host and host == _os.boot_id():
            with contextlib.suppress(SharedMemoryGone, OSError):
                import pickle

                return pickle.loads(payload)
    return store_of(client)


_stores: weakref.WeakKeyDictionary[Any, weakref.ref[FarStore]] = weakref.WeakKeyDictionary()
_finding = threading.Lock()
os.register_at_fork(after_in_child=_finding._at_fork_reinit)  # type: ignore[attr-defined]


def store_of(client: Any) -> FarStore:
    """Return the store behind a server: the same one as long as anybody uses it."""
    with _finding:
        known = _stores.get(client)
        found = known() if known is not None else None
        if found is None or found.life.over:
            found = FarStore(client)
            _stores[client] = weakref.ref(found)
        return found


class _Hooks(Codec):
    """What is written and read here for a store that is elsewhere."""

    def __init__(self, home: FarStore) -> None:
        super().__init__(home.uuid, _core.encode_key, self._face)
        self._home = weakref.ref(home)
        if not home.client.has_key:
            self.loads = loads_plain  # type: ignore[method-assign]

    @property
    def home(self) -> FarStore:
        """The store of a face's engine."""
        home = self._home()
        if home is None:
            raise ReferenceError("the store of this container is closed")
        return home

    def _face(self, kind: int, c: int, is_shared: bool) -> Any:
        return self.home.container(kind, c, is_shared)


class Life:
    """Whether a server's store is still the one that it was."""

    def __init__(self, address: Any) -> None:
        self._address = address
        self.over = False

    def check(self) -> None:
        """Raise if what faces stand for is not there any more."""
        if self.over:
            raise ContainerGone(
                f"the manager at {format_address(self._address)} was started anew and lost this "
                "container: ask it for a container of that name again"
            )


class FarStore:
    """A store behind a server, as `_home.Home` is one in memory."""

    is_home = False

    def __init__(self, client: Any) -> None:
        self.client = client
        (uuid,) = client.ask(STORE, "uuid", idempotent=True)
        self.uuid = bytes(uuid)
        self.life = Life(client.address)
        # Its operations come from a table, which a type checker does not see.
        self.engine: Any = FarEngine(client, _Hooks(self), self.life)
        self._held: Held[int] = Held(self._hold, self._let_go)
        self._pid = os.getpid()
        client.connection.on_reconnect.append(_resuming(weakref.ref(self)))
        util.register_after_fork(self, FarStore._after_fork)

    # -- who looks at what ------------------------------------------------------------------------

    def here(self) -> FarStore:
        """Be this process's own, if it was inherited by a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._held.forget_others()
            self._resume()
        return self

    def _after_fork(self) -> None:
        """Sign for what was inherited: the parent may let go of it at any moment."""
        if self._held.all():
            with contextlib.suppress(ManagerLost, OSError):
                self.here()

    def resumed(self) -> None:
        """On a new connection: see whether this is the same store, and hold what was held."""
        (uuid,) = self.client.connection.ask(STORE, "uuid", idempotent=True)
        if bytes(uuid) == self.uuid:
            self._resume()
        else:
            self.life.over = True

    def _resume(self) -> None:
        held = self._held.all()
        if held:
            _ = self.client.client_id
            self.client.connection.ask(STORE, "resume", held, idempotent=True)
        self._held.flush()

    def _hold(self, c: int) -> None:
        self.engine.hold(c)

    def _let_go(self, c: int) -> bool:
        connection = self.client.connection
        return (
            self._pid != os.getpid()
            or self.life.over
            or bool(connection.send_oneway(STORE, "drop", c))
        )

    def track(self, face: Any) -> Any:
        """Let go of a container, which the server keeps for this process, when its face is gone."""
        self._held.has(face._c)
        return self._tracked(face)

    def _tracked(self, face: Any) -> Any:
        face._keeper = self
        weakref.finalize(face, self._held.drop, face._c).atexit = False
        return face

    def container(self, kind: int, c: int, is_shared: bool) -> Any:
        """Return the face of a container that was read from another one."""
        face: Any = FACES[kind](self.engine, c)
        if is_shared:
            self._held.hold(c)
            return self._tracked(face)
        face._keeper, face._nested = self, True
        return face

    def make(self, kind: int, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Return the face of a new container, or of the one that has the name already."""
        self.here()
        face = make(self.engine, kind, *args, name=name, **kwargs)
        if name is None:
            return self.track(face)
        face._keeper = self  # one that has a name needs nobody to hold it
        return face

    # -- how it travels ---------------------------------------------------------------------------

    def written(self, face: Any) -> tuple[Any, ...]:
        """Write a face down. The container is kept until somebody has received it."""
        self.here()
        self.engine.hold(face._c)
        owner = self.engine.ask("owner", idempotent=True)[0]
        return _received, (self, type(face)._KIND, face._c, owner)

    def received(self, kind: int, c: int, sender: int) -> Any:
        """Return the face of a container that another process has sent."""
        self.here()
        face = FACES[kind](self.engine, c)
        self._held.hold(c)
        with contextlib.suppress(ContainerGone):
            self.engine.ask("received", c, sender)
        return self._tracked(face)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.client.address, *self.client.credentials())


def _resuming(store: weakref.ref[FarStore]) -> Callable[[Any], None]:
    def resume(_: Any) -> None:
        found = store()
        if found is not None and found._pid == os.getpid():
            found.resumed()

    return resume


def _received(store: FarStore, kind: int, c: int, sender: int) -> Any:
    return store.received(kind, c, sender)


def _arrive(address: Any, key: bytes | None = None) -> FarStore:
    if key is not None:
        KNOWN_KEYS[address] = key
    return store_of(get_client(address, key, local=False))
