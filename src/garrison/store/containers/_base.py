"""The base class of all containers, and their `repr`."""

from __future__ import annotations

import operator
import threading
import types

from garrison import _standard
from garrison._pickling import register
from garrison._standard import managers
from garrison._typing import Any, ClassVar
from garrison.store._backend import KIND_NAMES, Metadata, StoreBackend
from garrison.store._plain_copies import is_cloudpickle, plain_copy, reduce_as_plain

__all__ = ["MISSING", "Container", "ContainerRepr"]

MAX_ENTRIES_SHOWN = 10_000
"""Entries that `repr` shows at most, over all levels."""
MAX_TEXT_SHOWN = 10_000
"""Characters of one value that `repr` shows at most."""


class _Missing:
    """The default of an argument that was not given."""

    def __repr__(self) -> str:
        return "<not given>"


MISSING: Any = _Missing()


class Container(managers.BaseProxy):
    """A container in a store, as this process uses it.

    An object has only the number of its container. Any number of objects, in any process, may
    refer to one container, and are equal then. Programs see the proxies of a standard manager.
    """

    __slots__ = ("_backend", "_container_id", "_keep_alive")

    _keep_alive: object
    """The store, which lives as long as this object."""
    _nested = False
    """Whether a plain container was stored here: to programs it still is that."""
    _kind: ClassVar[int]
    _proxy_name: ClassVar[str]
    """The name of the proxy's type, and that of the object's, as `repr` shows them."""
    _typeid: ClassVar[str]
    _recursive_repr: ClassVar[str] = "[...]"
    """What `repr` shows of it inside itself."""

    def __init__(self, backend: StoreBackend, container_id: int) -> None:
        self._backend = backend
        self._container_id = container_id

    @property
    def _metadata(self) -> Metadata:
        return Metadata._make(self._backend.metadata(self._container_id))

    def __garrison_container__(self) -> tuple[bytes, int, int]:
        return self._backend.uuid, self._kind, self._container_id

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        register(cls, Container._reduce_for_transfer)

    def _reduce_for_transfer(self) -> tuple[Any, ...]:
        """Return the arguments that refer to the same container in another process."""
        store = self._shared_store()
        if store is None:
            return type(self), (self._backend, self._container_id)
        reduced: tuple[Any, ...] = store.reduce_container(self)
        return reduced

    def _shared_store(self) -> Any:
        hooks: Any = getattr(self._backend, "hooks", None)
        return getattr(hooks, "store", None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (
            self._reduce_for_transfer()
            if is_cloudpickle()
            else reduce_as_plain(plain_copy(self), protocol)
        )

    def __eq__(self, other: object) -> bool:
        return self._same_container(other) if isinstance(other, Container) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.__garrison_container__())

    def _same_container(self, other: object) -> bool:
        """Whether both refer to one container."""
        return (
            isinstance(other, Container)
            and self.__garrison_container__() == other.__garrison_container__()
        )

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    # -- methods of a proxy of the standard library ------------------------------------------------

    _serializer = "pickle"
    _manager = _authkey = None

    @property
    def _id(self) -> str:
        return f"{self._container_id:x}"

    @property
    def _token(self) -> managers.Token:
        address = getattr(self._shared_store(), "address", None)
        return managers.Token(self._typeid, address, self._id)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the standard signature
        """Call a method of this object: no server has another one."""
        if methodname in _FALLBACKS:
            return _FALLBACKS[methodname](self._getvalue(), *args, **kwds)
        method = None if methodname == "_callmethod" else getattr(self, methodname, None)
        if method is None:
            kind, exposed = type(self).__name__, getattr(self, "_exposed_", ())
            msg = f"method {methodname!r} of {kind} object is not in exposed={exposed!r}"
            raise managers.RemoteError(f"AttributeError: {msg}\n")
        return method(*args, **kwds)

    def _plain(self) -> Any:
        """Return a plain object with the same contents; nested containers stay live."""
        return self._backend.snapshot(self._container_id)

    def _getvalue(self) -> Any:
        """Return a plain copy; nested containers are plain as well, shared ones stay shared."""
        return self._backend.snapshot(self._container_id)

    def _connect(self) -> None:
        """Nothing has to be connected."""

    _incref = _after_fork = _connect

    def __repr__(self) -> str:
        if self._nested:
            return str(self)
        return f"<{self._proxy_name} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return _repr.text(self)

    def _repr_items(self, text: ContainerRepr) -> str:  # noqa: ARG002 - others show their entries
        """Return what `str` shows."""
        return f"<{KIND_NAMES[self._kind]} {self._container_id}>"

    __class_getitem__: Any = classmethod(types.GenericAlias)


_standard.hide(Container, "nothing of it lives in a server")


class ContainerRepr(threading.local):
    """Makes the text of a container; limits the entries over all nested ones."""

    def __init__(self) -> None:
        self._left = 0
        self._above: list[Any] = []

    def text(self, value: Any) -> str:
        """Return the repr of a value, cut where it gets too long."""
        if not isinstance(value, Container):
            text = repr(value)
            return text if len(text) <= MAX_TEXT_SHOWN else f"{text[:MAX_TEXT_SHOWN]}..."
        place = value.__garrison_container__()
        if place in self._above:
            return value._recursive_repr
        if not self._above:
            self._left = MAX_ENTRIES_SHOWN
        self._above.append(place)
        try:
            return value._repr_items(self)
        finally:
            self._above.pop()

    def entries(self, container: Container, what: str = "values", pair: str = "{}: {}") -> str:
        """Return the entries of a container, as many as there is room for."""
        found = container._backend.scan(container._container_id, what)
        shown = []
        for entry in found:
            if self._left <= 0:
                shown.append("...")
                found.close()
                break
            self._left -= 1
            parts = map(self.text, entry if what == "items" else (entry,))
            shown.append((pair if what == "items" else "{}").format(*parts))
        return ", ".join(shown)

    def attributes(self, container: Container) -> str:
        """Return the entries of a namespace, by name."""
        pairs = sorted(container._backend.scan(container._container_id, "items"))
        return ", ".join(f"{name}={self.text(value)}" for name, value in pairs)


_repr = ContainerRepr()

_FALLBACKS: dict[str, Any] = {"#GETVALUE": lambda value: value, "__str__": str, "__repr__": repr}
"""The attributes that every proxy forwards."""


def position(index: Any, what: str) -> int:
    """Return an index as a number, or raise as the plain type would."""
    try:
        return operator.index(index)
    except TypeError:
        msg = f"{what} not {type(index).__name__}"
        raise TypeError(msg) from None
