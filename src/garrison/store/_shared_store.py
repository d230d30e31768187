"""The base of `LocalStore` and `RemoteStore`: containers, and the references to them.

A container lives as long as a name, another container or an owner refers to it. A process is an
owner: it has one reference to each container that it uses, and releases it with its last object of
the container. For a transfer the sender takes another one, which the receiver releases.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from multiprocessing import util

from garrison import _core
from garrison._typing import TYPE_CHECKING, Any, ClassVar
from garrison.errors import ContainerGone
from garrison.store._codec import Codec
from garrison.store._factory import CONTAINER_TYPES, create_container
from garrison.store._references import ReferenceCounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["SharedStore", "StoreCodec"]


class StoreCodec(Codec):
    """The codec of a store's backend.

    Parameters
    ----------
    store : SharedStore
        The store; it is not kept alive.
    container : callable
        Makes the object for a nested container.
    """

    def __init__(self, store: SharedStore, container: Callable[[int, int, bool], Any]) -> None:
        super().__init__(store.uuid, _core.encode_key, container)
        self._store = weakref.ref(store)

    @property
    def store(self) -> Any:
        """The store whose backend this is."""
        store = self._store()
        if store is None:
            raise ReferenceError("the store of this container is closed")
        return store


class SharedStore(ABC):
    """A store as one process uses it: `backend` has its operations."""

    is_local: ClassVar[bool]
    uuid: bytes
    backend: Any
    """A `StoreBackend`, with the methods for its server and its owners."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._references: ReferenceCounts[int] = ReferenceCounts(
            _weakly(self._acquire_ref), _weakly(self._try_release_ref)
        )
        util.register_after_fork(self, type(self)._after_fork)

    # -- processes --------------------------------------------------------------------------------

    def ensure_current_process(self) -> Self:
        """Become a separate owner if the store was inherited by a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._references.reset_after_fork()
            self._become_owner()
        return self

    def _after_fork(self) -> None:
        """Take references to inherited containers: the parent may release its own at any moment."""
        self.ensure_current_process()

    @abstractmethod
    def _become_owner(self) -> None:
        """In a forked child: get an owner's id, and references to inherited containers."""

    # -- references -------------------------------------------------------------------------------

    def _acquire_ref(self, container_id: int) -> None:
        self.backend.acquire_ref(container_id)

    @abstractmethod
    def _try_release_ref(self, container_id: int) -> bool:
        """Release this process's reference without waiting; return whether that was possible."""

    @abstractmethod
    def _transfer_owner(self) -> int:
        """Return the owner's id of this process's references for transfers."""

    @abstractmethod
    def _release_transfer(self, container_id: int, sender: int) -> None:
        """Release the reference of a sender; the receiver has its own by now."""

    def _released_at_end(self, container: Any) -> Any:
        container._keep_alive = self
        # A method of the store: the finalizer keeps the store alive.
        finalizer = weakref.finalize(container, self._remove, container._container_id)
        finalizer.atexit = False
        return container

    def _remove(self, container_id: int) -> None:
        self._references.remove(container_id)

    # -- containers -------------------------------------------------------------------------------

    def make(self, kind: int, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Return a new container, or the one that has the name already; see `create_container`."""
        self.ensure_current_process()
        container = create_container(self.backend, kind, *args, name=name, **kwargs)
        if name is None:
            return self.track(container)
        container._keep_alive = self  # its name keeps the container in the store
        return container

    def track(self, container: Any) -> Any:
        """Release the reference that a container was created with when its object is gone."""
        self._references.add_existing(container._container_id)
        return self._released_at_end(container)

    def container(self, kind: int, container_id: int, is_shared: bool) -> Any:
        """Return the object for a container that was read from another one.

        Parameters
        ----------
        kind : int
            Its kind.
        container_id : int
            Its number in the store.
        is_shared : bool
            Whether it exists by itself; else the outer container owns it.
        """
        container: Any = CONTAINER_TYPES[kind](self.backend, container_id)
        if is_shared:
            return self._referenced(container)
        container._nested, container._keep_alive = True, self
        return container

    def _referenced(self, container: Any) -> Any:
        self.ensure_current_process()._references.add(container._container_id)
        return self._released_at_end(container)

    # -- transfer ---------------------------------------------------------------------------------

    def reduce_container(self, container: Any) -> tuple[Any, ...]:
        """Return the arguments that open a container elsewhere; keep it until it is opened."""
        self.ensure_current_process()
        container_id = container._container_id
        self.backend.acquire_ref(container_id)
        return _rebuild, (self, type(container)._kind, container_id, self._transfer_owner())

    def receive_container(self, kind: int, container_id: int, sender: int) -> Any:
        """Return the object for a container that another process has sent."""
        self.ensure_current_process()
        container = self._referenced(CONTAINER_TYPES[kind](self.backend, container_id))
        with contextlib.suppress(ContainerGone):
            self._release_transfer(container_id, sender)
        return container


def _rebuild(store: SharedStore, kind: int, container_id: int, sender: int) -> Any:
    return store.receive_container(kind, container_id, sender)


def _weakly(method: Callable[[int], Any]) -> Callable[[int], Any]:
    """Return a function that calls a method and does not keep its object alive."""
    found: Any = weakref.WeakMethod(method)

    def call(container_id: int) -> Any:
        return found()(container_id)

    return call
